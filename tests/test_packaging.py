"""minet works as a bare checkout, as a wheel and as an editable install, from any folder, with no network."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = ("kernels", "models", "templates")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]


def run(*command, cwd, path=""):
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**env, "PYTHONPATH": str(path), "PIP_NO_INDEX": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the sources to build from, so that nothing is left in the working tree."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("minet", *DATA, "examples"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", out, checkout, cwd=out)
    [wheel] = out.glob("minet_layers-*-py3-none-any.whl")
    return wheel


def works(python, cwd, path, root):
    """Check that the package at `root` is what runs, and finds its data next to or inside it."""
    code = "import minet; from minet.core.files import shipped; print(minet.__file__, *map(shipped, %r))"
    assert run(python, "-c", code % [*DATA], cwd=cwd, path=path).count(str(root)) == 1 + len(DATA)
    assert "StochasticPool" in run(python, "-m", "minet", "summary", "digits", cwd=cwd, path=path)
    assert "PASS" in run(python, "-m", "minet", "check", "relu", cwd=cwd, path=path)
    if shutil.which("g++"):
        out = run(python, "-m", "minet", "check", "relu", "--backend", "emu", cwd=cwd, path=path)
        assert "PASS  parity_emu" in out


@pytest.mark.slow
def test_a_bare_checkout_works_from_another_folder(tmp_path):
    works(sys.executable, tmp_path, ROOT, ROOT)


def test_the_wheel_holds_everything_in_the_checkout(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "minet/py.typed",
        "minet/loops/philox.py",
        "minet/models/digits.py",
        "minet/kernels/README.md",
        "minet/templates/window/my_layer.cu",
    } <= inside
    expected = {path if path.startswith("minet/") else f"minet/{path}" for path in files("minet", *DATA)}
    assert expected == {name for name in inside if not name.startswith("minet_layers-")}
    [entry] = [name for name in inside if name.endswith("entry_points.txt")]
    assert "minet = minet.cli.main:main" in zipfile.ZipFile(wheel).read(entry).decode()


def test_a_wheel_built_from_the_sdist_is_the_same(checkout, wheel, tmp_path):
    code = "from setuptools.build_meta import build_sdist; print(build_sdist(%r))"
    name = run(sys.executable, "-c", code % str(tmp_path), cwd=checkout).splitlines()[-1]
    assert re.fullmatch(r"minet_layers-[\w.]+\.tar\.gz", name)
    with tarfile.open(tmp_path / name) as sdist:
        inside = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    assert set(files("minet", *DATA, "examples")) <= inside
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, tmp_path / name, cwd=tmp_path)
    assert sums(tmp_path / wheel.name) == sums(wheel)


def files(*folders):
    """Yield the paths of all files in folders of the checkout."""
    for folder in folders:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix()


def sums(wheel):
    with zipfile.ZipFile(wheel) as file:
        return {info.filename: info.CRC for info in file.infolist()}


@pytest.mark.slow
def test_the_unpacked_wheel_works_from_another_folder(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    (tmp_path / "elsewhere").mkdir()
    works(sys.executable, tmp_path / "elsewhere", site, site)


@pytest.mark.slow
def test_an_editable_install_works_from_another_folder(checkout, tmp_path):
    env, elsewhere = tmp_path / "env", tmp_path / "elsewhere"
    venv.create(env)
    python = env / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    # Everything we have installed except our own editable minet: .pth files in added folders are not read.
    Path(site, "ours.pth").write_text(sysconfig.get_path("purelib"))
    run(
        *PIP, "--python", python, "install", "--no-deps", "--no-build-isolation", "-e", checkout, cwd=tmp_path
    )
    elsewhere.mkdir()
    works(python, elsewhere, "", checkout)
    assert run(env / "bin" / "minet", "summary", "digits", cwd=elsewhere).startswith("path ")
