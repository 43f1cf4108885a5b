"""Where the data are: kernels/, models/ and templates/ lie beside minet/, and are installed inside it."""

from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = ("kernels", "models", "templates")


class BuildWithData(build_py):
    """Copies the data folders into the package; an editable install finds them beside it."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for name in DATA:
                target = Path(self.build_lib, "minet", name)
                copytree(name, target, ignore=ignore_patterns("__pycache__"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithData})
