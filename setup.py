"""Where the packages are: kernels/ and models/ beside minet/ become minet.kernels and minet.models."""

from setuptools import setup

setup(
    packages=["minet", "minet.backends", "minet.data", "minet.layers", "minet.kernels", "minet.models"],
    package_dir={"minet": "minet", "minet.kernels": "kernels", "minet.models": "models"},
    package_data={
        "minet": ["py.typed"],
        "minet.data": ["digits/*"],
        "minet.kernels": ["*.cu", "*.cuh", "*.h", "*.md"],
    },
)
