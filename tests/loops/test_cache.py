"""A cache that cannot be written: kernels work all the same, for one process, which says so once."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNWRITABLE = """
import sys, tempfile

def denied(*args, dir=None, **options):  # not chmod, which does not stop root
    if not str(dir).startswith(tempfile.gettempdir()):
        raise PermissionError(13, "Permission denied", str(dir))
    return real(*args, dir=dir, **options)

real, tempfile.TemporaryFile = tempfile.TemporaryFile, denied
sys.argv[1:] = {args!r}
from minet.cli.main import main
main()
"""


def run(tmp_path, *args):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    clean = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", UNWRITABLE.format(args=list(args))], cwd=tmp_path, check=False, text=True,
        env={**clean, "PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)}, capture_output=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert not list(scratch.iterdir())
    return done


def test_kernels_work_and_the_cache_is_removed_at_the_end(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from minet.loops import kernel\n"
        "@kernel\n"
        "def double(x):\n"
        "    return 2 * x\n"
        "@kernel()\n"
        "def half(x):\n"
        "    return x / 2\n"
        "print(double(21), half(21), len(double.stats.cache_misses), double.stats.cache_path, flush=True)\n"
    )
    done = run(tmp_path, "summary", "mine.py")
    assert done.stdout.startswith(f"42 10.5 1 {tmp_path}/scratch/minet-numba-")
    assert done.stderr.count("no folder for Numba's cache can be written to") == 1


def test_the_doctor_says_so(tmp_path):
    done = run(tmp_path, "doctor")
    assert "only for this process" in done.stdout
    assert '$ export NUMBA_CACHE_DIR="$(mktemp -d)"' in done.stdout
