"""Where the packages are: kernels/, models/ and benchmarks/ beside minet/ are installed inside it."""

from setuptools import setup

setup(
    packages=[
        "minet",
        "minet.backends",
        "minet.data",
        "minet.layers",
        "minet.kernels",
        "minet.models",
        "minet.benchmarks",
    ],
    package_dir={
        "minet": "minet",
        "minet.kernels": "kernels",
        "minet.models": "models",
        "minet.benchmarks": "benchmarks",
    },
    package_data={
        "minet": ["py.typed"],
        "minet.data": ["digits/*"],
        "minet.kernels": ["*.cu", "*.cuh", "*.cpp", "*.h", "*.md"],
    },
)
