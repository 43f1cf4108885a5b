"""Mutants: where they are drawn from, and how their fate is found, on a small tree."""

import ast
import os
from pathlib import Path

import pytest

from benchmarks import mutants
from benchmarks.mutants import main, outcome, trial
from benchmarks.mutations import drawn, mutants_of, sources

LAYER = '''"""Not 1, nor 2."""


@kernel(parallel=3)
def total(x: "4 | 5", y=6):
    """7."""
    if x <= 8 and not y:
        raise ValueError(f"{9 + x}")
    y += min(x, -10) // 0.5
    return True

def examples():
    return 11
'''
KERNEL = """// a < b, 1
#include "two2.cuh"
__global__ void own(const float *x, float *y, int N) { /* 3 */
    template <int K> y[-K] = x[N - 1] * 0.5f; // +
    __syncthreads();
    y[0] += min(N % 4, N) >= 0x10 && 1.2e-38f;
}
"""


def changes(path, text):
    found = mutants_of(path, text)
    assert all(m.applied(text) == text[: m.start] + m.new + text[m.end :] != text for m in found)
    return [(m.line, m.old, m.new) for m in found]


def test_what_is_changed_in_python():
    """Not docstrings, decorators, annotations, messages and examples."""
    assert changes("minet/loops/total.py", LAYER) == [
        (5, "6", "7"), (5, "6", "5"),
        (7, "<=", "<"), (7, "<=", ">"), (7, "8", "9"), (7, "8", "7"), (7, "and", "or"), (7, "not ", ""),
        (9, "+=", "="), (9, "+=", "-="), (9, "min", "max"), (9, "-", "+"), (9, "10", "11"), (9, "10", "9"),
        (9, "//", "*"), (9, "0.5", "2.0"),
        (10, "True", "False"),
    ]  # fmt: skip


def test_what_is_changed_in_a_kernel():
    """Not comments, includes, signs, pointers, brackets of templates, and numbers in other notations."""
    assert changes("kernels/own.cu", KERNEL) == [
        (4, "-", "+"), (4, "1", "2"), (4, "1", "0"), (4, "*", "/"), (4, "0.5f", "2.0f"),
        (5, "__syncthreads();", ""),
        (6, "0", "1"), (6, "+=", "="), (6, "+=", "-="), (6, "min", "max"), (6, "%", "/"), (6, "4", "5"),
        (6, "4", "3"), (6, ">=", ">"), (6, ">=", "<"), (6, "&&", "||"),
    ]  # fmt: skip


def test_each_mutant_of_minets_own_files_parses_and_has_tests():
    texts = sources(mutants.ROOT)
    assert {
        "minet/layers/conv.py",
        "minet/loops/conv/gemm.py",
        "kernels/relu.cu",
        "kernels/minet.cuh",
    } <= set(texts)
    for mutant in drawn(texts, 0)[:40]:
        if mutant.path.endswith(".py"):
            ast.parse(mutant.applied(texts[mutant.path]))
        assert all(
            (mutants.ROOT / test).exists() for test in mutants.tests_of(mutants.ROOT, mutant.path, texts)
        )
    assert drawn(texts, 5) == drawn(texts, 5) != drawn(texts, 6)
    assert {mutant.path for mutant in drawn(texts, 0, ["relu.cu"])} == {"kernels/relu.cu", "kernels/prelu.cu"}


def test_tests_belong_by_the_stems_of_a_file_and_of_its_users():
    texts = sources(mutants.ROOT)
    for path, first, also in (
        ("kernels/relu.cu", "tests/layers/test_relu.py", ()),
        (
            "kernels/gather_picked.cuh",
            "tests/layers/test_max_pool.py",
            ["tests/layers/test_stochastic_pool.py"],
        ),
        ("minet/loops/conv/winograd.py", "tests/loops/test_winograd.py", ["tests/layers/test_conv.py"]),
        ("minet/loops/window.py", "tests/core/test_window.py", ["tests/layers/test_avg_pool.py"]),
        ("minet/loops/conv/winograd_dw.py", "tests/layers/test_conv.py", ["tests/loops/test_winograd.py"]),
        ("minet/loops/gather.py", "tests/data/test_array_files.py", ["tests/data/test_augment.py"]),
        ("kernels/layout.cu", "tests/loops/test_layout.py", ["tests/torch/test_layout_kernel.py"]),
    ):
        found = mutants.tests_of(mutants.ROOT, path, texts)
        assert found[0] == first and {*also, *mutants.EVERYWHERE} <= set(found)


LOOP = "def twice(x):\n    while x < 0:\n        x += 1\n    return 2 * x\n"
PATH = "minet/layers/twice.py"


@pytest.fixture
def tree(tmp_path):
    """A tree with one layer and two tests, of which one does not know the layer."""
    files = {
        "minet/__init__.py": "",
        "minet/layers/__init__.py": "",
        PATH: LOOP,
        "tests/layers/test_twice.py": "from minet.layers.twice import twice\n\n\n"
        "def test_twice():\n    assert twice(3) == 6\n",
        "tests/layers/test_broken.py": "def test():\n    raise ValueError('g++ cannot compile a kernel')\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.slow
def test_a_mutant_dies_survives_or_hangs(tree):
    assert sources(tree)[PATH] == LOOP
    assert mutants.tests_of(tree, PATH, sources(tree)) == ["tests/layers/test_twice.py"]
    found = {(mutant.old, mutant.new): mutant for mutant in mutants_of(PATH, LOOP)}
    for change, limit, fate in (
        (("2", "3"), 300, "failed"),
        (("<", "<="), 300, "passed"),
        (("<", ">="), 1, "late"),  # it never ends
    ):
        assert trial(tree, found[change], sources(tree), [["tests/layers/test_twice.py"]], limit) == fate
    assert (tree / PATH).read_text() == LOOP


def test_compiled_kernels_are_shared_except_those_that_have_the_change(tree, monkeypatch):
    used = "from minet.layers.twice import twice\n"
    (tree / "minet/layers/other.py").write_text("")
    (tree / "minet/layers/user.py").write_text(used)
    for name in ("layers/twice", "layers/user", "layers/other", "bench/unknown"):
        folder, stem = name.split("/")
        index = tree / f"minet/{folder}/__pycache__/{stem}.function-1.py311.nbi"
        index.parent.mkdir(exist_ok=True, parents=True)
        index.touch()
        os.utime(index, (0, 0))
    seen = {}

    def looked(copy, *_):
        newest = (copy / PATH).stat().st_mtime
        seen.update((i.name.split(".")[0], i.stat().st_mtime >= newest) for i in copy.rglob("*.nbi"))
        return "failed", ""

    monkeypatch.setattr(mutants, "outcome", looked)
    assert trial(tree, mutants_of(PATH, LOOP)[0], sources(tree), [], 1) == "failed"
    assert seen == {"other": True}
    assert mutants.users(PATH, sources(tree)) == [PATH, "minet/layers/user.py"]
    assert mutants.users("minet/layers/__init__.py", {PATH: used})[1:] == [PATH]


def test_a_kernel_that_does_not_compile_is_no_mutant(tree):
    status, output = outcome(tree, [["tests/layers/test_broken.py"]], 300)
    assert status == "invalid" and "ValueError" in output


@pytest.mark.parametrize(
    ("path", "layers", "own", "named"),
    [
        ("minet/loops/conv/gemm.py", "conv", "not emu", "tests/layers/test_conv_groups.py"),
        ("minet/loops/lrn.py", "lrn", "not emu", "tests/layers/test_lrn.py"),
        ("kernels/conv_dw.cu", "conv", "not test_fences", "tests/layers/test_conv_gpu.py"),
        ("kernels/clip.cu", "", "not test_fences", "tests/train/optim/test_solver.py"),
    ],
)
def test_paths_come_first_and_slow_tests_last(path, layers, own, named):
    texts = sources(mutants.ROOT)
    *first, quick, slow, last = [*mutants.stages(mutants.ROOT, path, texts), *([] if layers else [None])]
    assert last == ([mutants.MAGNITUDES, "-k", f"{own} and ({layers})"] if layers else None)
    assert first == ([[mutants.PATHS, "-k", f"{own} and ({layers})"]] if layers else [])
    assert named in quick and quick[-4:] == ["-m", "not slow", "-k", own] and mutants.PATHS not in quick
    assert [*quick[:-4], "-m", "slow", "-k", own] == slow
    *paths, few = mutants.stages(mutants.ROOT, path, texts, quick=True)
    assert paths == first and len(few) < len(quick)
    assert not any(Path(word).is_absolute() for word in few)


def test_the_command_counts_and_names_survivors(tree, monkeypatch, capsys):
    fates = {"2 -> 3": "failed", "< -> <=": "passed", "< -> >=": "late", "* -> /": "invalid"}
    monkeypatch.setattr(mutants, "ROOT", tree)
    monkeypatch.setattr(mutants, "outcome", lambda *_: ("passed", ""))
    monkeypatch.setattr(mutants, "trial", lambda _, m, *__: fates.get(f"{m.old} -> {m.new}", "failed"))
    for seed in range(2):
        assert main(["--seed", str(seed), "--count", "8"]) == 0
        out = capsys.readouterr().out
        assert (
            "\n7 of 8 died (87.5%)\nsurvivors:\nminet/layers/twice.py:2: < -> <=   in   while x < 0:\n" in out
        )
        assert "SURVIVED  minet/layers/twice.py:2: < -> <=" in out and " * -> /" not in out
        assert "late      minet/layers/twice.py:2: < -> >=" in out
    monkeypatch.setattr(mutants, "outcome", lambda *_: ("failed", "E   no"))
    assert main([]) == 2
    assert capsys.readouterr().err == "E   no\nthe tests fail without a mutant\n"
