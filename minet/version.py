"""minet's version, on its own: what writes files names it without importing the package."""

__version__ = "0.2.0"
