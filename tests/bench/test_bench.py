"""The benchmark: what it counts, compares and judges, and what it refuses to time."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import loader, overhead, scaling, startup
from minet import MinetError, backends
from minet.backends import nvidia
from minet.bench import (
    ahead,
    cases,
    compare,
    contender_minet,
    contest,
    counts,
    peaks,
    process,
    report,
    rivals,
    run,
    targets,
    timers,
)
from minet.cli.main import app

TINY = (4, 9, 8, 5)
LARGE, MIDDLE = "64x32x32x128", "128x16x16x128"
PEAKS = {"copy": [[1 << 10, 1e9], [1 << 20, 4e9]], "product": 1e9, "of": "numpy"}
SCIPY = [rival for rival in rivals.RIVALS if rival.name == "scipy"]
TORCH = [rival for rival in rivals.RIVALS if rival.name.startswith("torch") and rival.on_cpu]
ON_CARD = [rival for rival in rivals.RIVALS if rival.on_card]
LAYERS = [
    cases.layer("GaussianPool", TINY, window=3, stride=2, kernels=1),
    cases.layer("GaussianPool", TINY, window=5, stride=1, kernels=3),
    cases.layer("GaussianPool", TINY, window=2, stride=2, kernels=1, edge="zero"),
    cases.layer("MaxPool", TINY, window=3, stride=2),
    cases.layer("AvgPool", TINY, window=3, stride=2),
    cases.layer("AvgPool", TINY, window=2, stride=1),
    cases.layer("StochasticPool", TINY, window=3, stride=2),
    cases.layer("PReLU", TINY),
    cases.layer("ReLU", TINY),
    cases.layer("BatchNorm", TINY),
    cases.layer("LRN", TINY),
    cases.layer("Conv", TINY, window=3, maps=6),
    cases.layer("Conv", TINY, window=3, maps=6, groups=2, stride=2),
    cases.layer("Conv", TINY, window=2, maps=6, pad="same"),
    cases.layer("GaussianPool", TINY, window=5, stride=2, kernels=1, dilation=2),
    cases.layer("GaussianPool", TINY, window=(1, 5), stride=(1, 2), kernels=2),
    cases.layer("GaussianPool", TINY, window=3, stride=2, pad=((0, 1), (2, 0)), ceil=True, kernels=2),
    cases.layer("GaussianPool", TINY, window=3, stride=2, kernels=2, shape="full", correlation=0.5),
    cases.layer("GaussianPool", TINY, window=2, stride=2, kernels=1, shape="full", edge="zero", ceil=True),
    cases.layer("GaussianPool", TINY, window=None, kernels=2),
    cases.layer("GaussianPool", TINY, window=None, kernels=2, shape="full"),
    cases.layer("MaxPool", TINY, window=3, stride=2, pad=0, ceil=True),
    cases.layer("MaxPool", TINY, window=3, stride=2, pad=((0, 1), (2, 0)), dilation=2, ceil=True),
    cases.layer("MaxPool", TINY, window=3, stride=1, dilation=2),
    cases.layer("AvgPool", TINY, window=3, stride=2, pad=1, ceil=True, count_pad=True),
    cases.layer("AvgPool", TINY, out=(4, 3)),
    cases.layer("StochasticPool", TINY, window=3, stride=2, pad=((0, 1), (2, 0)), ceil=True),
]
MODELS = [
    cases.model("gaussian_inception", 2),
    cases.model("cifar10_zeiler", 2),
    cases.model("gaussian_inception", 1, infer=True),
]


def named(case):
    return case.name


# -- cases ----------------------------------------------------------------------------------------------


def test_cases_are_named_apart_and_fit_their_images():
    everything = [*cases.DEFAULT, *cases.product()]
    assert len({case.name for case in cases.DEFAULT}) == len(cases.DEFAULT)
    by_name = {}
    for case in everything:
        assert by_name.setdefault(case.name, case) == case
        if not case.is_model:
            graph = getattr(contender_minet.minet.layers, case.layer)(**case.settings)
            graph.configure(case.shape[:3])


def test_the_product_has_every_shape_window_and_stride():
    names = {case.name for case in cases.product()}
    for shape in (
        "64x32x32x128",
        "128x16x16x128",
        "96x8x8x128",
        "32x64x64x32",
        "16x128x128x16",
        "64x32x32x1",
    ):
        for window in (2, 3, 5, 7):
            for stride in (1, 2):
                for kernels in (1, 3):
                    assert f"GaussianPool {window}x{window} s{stride} k{kernels} {shape}" in names
                for layer in ("MaxPool", "AvgPool", "StochasticPool"):
                    assert f"{layer} {window}x{window} s{stride} {shape}" in names


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("full", [f"GaussianPool 7x7 s2 k1 full {LARGE}"]),
        ("readout", [f"GaussianPool readout k4 {LARGE}"]),
        ("401", ["GaussianPool 1x401 s1x160 k1 40x1x16000x32"]),
        ("ceil", [f"MaxPool 3x3 s2 pad 0 ceil {LARGE}"]),
        (
            "dilated",
            [f"GaussianPool 5x5 s1 dilated 2 k1 {MIDDLE}", f"MaxPool 3x3 s1 pad 1 dilated 2 {LARGE}"],
        ),
        ("adaptive", [f"AvgPool adaptive to 8x8 {LARGE}"]),
    ],
)
def test_a_word_chooses_what_few_libraries_have(word, found):
    assert [case.name for case in cases.chosen([word])] == found


def test_odd_windows_are_centred_unless_a_pad_is_given():
    def pad(**settings):
        return cases.layer("MaxPool", TINY, **settings).settings.get("pad")

    assert [pad(window=w) for w in (1, 2, 5, (1, 7), (4, 3))] == [None, None, 2, (0, 3), (0, 1)]
    assert pad(window=5, dilation=3) == 6
    assert pad(window=3, pad=0) == 0
    assert pad(out=3) is None


def test_words_choose_cases():
    assert [case.name for case in cases.chosen(["LRN"])] == ["LRN 64x32x32x128"]
    assert cases.chosen([]) == cases.DEFAULT
    assert len(cases.chosen(["LRN"], everything=True)) == 6
    assert cases.chosen(["no such"]) == []


def test_a_case_survives_json():
    for case in (*LAYERS, MODELS[2]):
        assert cases.Case.from_dict(json.loads(json.dumps(case.as_dict()))) == case


# -- counts ---------------------------------------------------------------------------------------------


def test_bytes_of_a_maximum():
    """x has 2*4*4*3 and y 2*2*2*3 floats; positions are bytes; bprop does not read x."""
    net, _ = contender_minet.net_of(cases.layer("MaxPool", (2, 4, 4, 3), window=2, stride=2))
    x, y, positions = 96 * 4, 24 * 4, 24
    assert counts.bytes_moved(net, "fprop") == x + y + positions
    assert counts.bytes_moved(net, "bprop") == y + positions + x
    assert counts.bytes_moved(net, "fprop+bprop") == 2 * (x + y + positions)


def test_bytes_of_a_layer_with_parameters():
    """bprop reads x, dy and a, and writes dx and da."""
    net, _ = contender_minet.net_of(cases.layer("PReLU", (2, 4, 4, 3)))
    x, a = 96 * 4, 2 * 4
    assert counts.bytes_moved(net, "fprop") == 2 * x + a
    assert counts.bytes_moved(net, "bprop") == 3 * x + 2 * a


def test_operations_of_a_convolution():
    """6 maps of 9x8 of 5 samples, each 4*3*3 multiplications and additions; bprop is two such products."""
    net, _ = contender_minet.net_of(cases.layer("Conv", TINY, window=3, maps=6))
    once = 2 * 6 * 4 * 9 * (9 * 8) * 5
    assert [counts.operations(net, phase) for phase in ("fprop", "bprop", "fprop+bprop")] == [
        once,
        2 * once,
        3 * once,
    ]


def test_operations_of_a_model():
    """cifar10_zeiler at batch 2: three 5x5 convolutions and a linear layer; its first needs no dx."""
    net, _ = contender_minet.net_of(MODELS[1])
    first, rest = 64 * 75 * 32 * 32, 64 * 1600 * 16 * 16 + 64 * 1600 * 8 * 8 + 10 * 64 * 4 * 4
    assert counts.operations(net, "inference") == 2 * 2 * (first + rest)
    assert counts.operations(net, "step") == 2 * 2 * (2 * first + 3 * rest)
    assert counts.bytes_moved(net, "step") == 0


def test_the_roofline_is_the_tighter_bound():
    assert counts.bound(1 << 20, 0, PEAKS) == (pytest.approx((1 << 20) / 4e9), "copy")
    assert counts.bound(1 << 15, 0, PEAKS) == (pytest.approx((1 << 15) / 2.5e9), "copy")
    assert counts.bound(1 << 20, 10**6, PEAKS) == (pytest.approx(1e-3), "product")
    assert counts.bound(1 << 20, 10**6, None) is None
    assert counts.bound(0, 0, PEAKS) is None


# -- targets --------------------------------------------------------------------------------------------


def test_a_row_under_its_target_is_reported():
    pool = cases.layer("MaxPool", TINY, window=3, stride=2)
    below = {"ratio": 1.5, "share": 0.6, "memory": None}
    assert targets.missed("cpu", pool, "fprop+bprop", below) == ["ratio 1.50, target >= 2"]
    assert targets.missed("cpu", pool, "fprop", below) == []
    assert targets.missed("cpu", pool, "fprop+bprop", {"ratio": None, "share": 0.5}) == []
    model = cases.model("gaussian_inception", 128)
    assert targets.missed("cpu", model, "step", {"ratio": 3.5, "memory": 0.7}) == [
        "memory 0.70, target <= 0.6"
    ]


def test_the_hardest_target_counts():
    pool = cases.layer("GaussianPool", (4, 9, 8, 16), window=5, stride=1, kernels=3)
    assert targets.missed("cpu", pool, "fprop+bprop", {"ratio": 1.0}) == ["ratio 1.00, target >= 3"]
    assert targets.ratio_wanted("cpu", pool, "fprop+bprop") == 3


def test_windows_that_few_libraries_have_need_twice_the_speed():
    def wanted(layer, **settings):
        case = cases.layer(layer, (4, 9, 8, 16), **settings)
        return targets.ratio_wanted("cpu", case, "fprop+bprop")

    assert wanted("GaussianPool", window=3, stride=2, kernels=1) == 1.5
    assert wanted("GaussianPool", window=3, stride=2, kernels=1, shape="full") == 2
    assert wanted("GaussianPool", window=(1, 5), kernels=3) == wanted("GaussianPool", window=None) == 2
    assert wanted("MaxPool", window=3, ceil=True) == wanted("AvgPool", out=3) == 2
    readout, slow = cases.layer("GaussianPool", TINY, window=None, kernels=4), {"share": 0.4}
    for phase in ("fprop", "fprop+bprop"):
        assert targets.missed("cpu", readout, phase, slow) == ["share 0.40, target >= 0.5"]
    assert targets.missed("cuda", readout, "fprop", slow) == []


def test_on_a_card_pooling_has_a_share_to_reach():
    pool = cases.layer("AvgPool", (4, 9, 8, 128), window=3, stride=2)
    assert targets.missed("cuda", pool, "bprop", {"share": 0.7, "ratio": 1.0}) == [
        "share 0.70, target >= 0.8"
    ]
    large = cases.layer("AvgPool", (4, 19, 18, 128), window=11, stride=2)
    assert targets.missed("cuda", large, "bprop", {"share": 0.7, "ratio": 0.5}) == ["ratio 0.50, target >= 1"]
    assert targets.missed("cuda", large, "fprop+bprop", {"share": 0.1, "ratio": 0.5}) == []
    model = cases.model("gaussian_inception", 128)
    assert targets.missed("cuda", model, "step", {"ratio": 2.0, "ms": 1.4}) == ["ms 1.40, target <= 1.3"]


def test_rows_are_compared_with_other_rows():
    def row(case, minet, best):
        return {"case": case.as_dict(), "phase": "fprop", "minet": minet, "best": best}

    one = cases.layer("GaussianPool", TINY, window=11, stride=2, kernels=1)
    three = cases.layer("GaussianPool", TINY, window=11, stride=2, kernels=3)
    average = cases.layer("AvgPool", TINY, window=11, stride=2)
    rows = [row(one, 3.0, 9.0), row(three, 6.0, 9.0), row(average, 1.0, 2.0)]
    found = {what: (ratio, most) for what, ratio, most in targets.beside("cuda", rows)}
    assert found == {
        "GaussianPool against the rival's AvgPool, 11x11 s2 4x9x8x5, fprop": (1.5, 1.0),
        "three kernels against one, 11x11 s2 4x9x8x5, fprop": (2.0, 1.5),
    }
    assert targets.beside("cpu", rows) == []
    assert targets.beside("cuda", rows[:1]) == []
    diagonal = cases.layer("GaussianPool", TINY, window=7, stride=2, kernels=1)
    full = cases.layer("GaussianPool", TINY, window=7, stride=2, kernels=1, shape="full")
    zero = cases.layer("GaussianPool", TINY, window=7, stride=2, kernels=1, edge="zero")
    rows = [row(diagonal, 2.0, 9.0), row(full, 7.0, 9.0), row(zero, 1.0, 9.0)]
    assert targets.beside("cpu", rows) == [("full against diagonal, 7x7 s2 4x9x8x5, fprop", 3.5, 6.0)]


# -- comparing ------------------------------------------------------------------------------------------


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture
def ours(tmp_path):
    return saved(tmp_path / "ours.npz", y=np.array([1.0, -2.0]), dx=np.array([1.0]))


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"y": [1.0, -2.0], "dx": [1.0]}, ""),
        ({"y": [1.0, -2.0002], "dx": [1.0]}, ""),
        ({"y": [1.0, -2.1], "dx": [1.0]}, "y by 0.05 of its largest value"),
        ({"y": [1.0, np.nan], "dx": [1.0]}, "y by nan of its largest value"),
        ({"y": [1.0, -2.0]}, "has no dx"),
        ({"y": [[1.0, -2.0]], "dx": [1.0]}, "y has shape (1, 2), minet's has (2,)"),
    ],
)
def test_how_results_differ_is_reported(ours, tmp_path, arrays, why):
    theirs = saved(tmp_path / "theirs.npz", **{name: np.array(a) for name, a in arrays.items()})
    assert compare.differs(LAYERS[3], ours, theirs) == why


def test_a_rival_with_only_fprop_needs_only_y(ours, tmp_path):
    theirs = saved(tmp_path / "theirs.npz", y=np.array([1.0, -2.0]))
    assert compare.differs(LAYERS[3], ours, theirs, whole=False) == ""


def test_a_gradient_that_is_all_rounding_does_not_differ(tmp_path):
    """With a window of two taps, sigma changes nothing."""
    arrays = {"y": np.ones(2), "pool.mean": np.array([5.0])}
    mine = saved(tmp_path / "a.npz", **arrays, **{"pool.log_sigma": np.array([0.0])})
    theirs = saved(tmp_path / "b.npz", **arrays, **{"pool.log_sigma": np.array([1e-5])})
    far = saved(tmp_path / "c.npz", **arrays, **{"pool.log_sigma": np.array([1e-2])})
    assert compare.differs(LAYERS[2], mine, theirs) == ""
    assert compare.differs(LAYERS[2], mine, far).startswith("pool.log_sigma by 0.02")


@pytest.mark.parametrize(
    ("y", "why"), [([1.0, np.inf], "y is not finite"), ([0.0, 0.0], "y is all zeros"), ([0.0, 1.0], "")]
)
def test_results_that_are_wrong_in_themselves(tmp_path, y, why):
    assert compare.wrong(LAYERS[3], saved(tmp_path / "a.npz", y=np.array(y))) == why


@pytest.mark.parametrize("case", [c for c in LAYERS if c.layer == "StochasticPool"], ids=named)
def test_draws_come_from_their_windows(case):
    drawn = contender_minet.build(case, "", "cpu").results()["drawn"]
    assert compare.outside(case, drawn) == ""
    elsewhere = np.roll(drawn, 1, axis=3)
    assert "draws are not from their windows" in compare.outside(case, elsewhere)
    zeros = compare.outside(case, np.zeros_like(drawn))
    assert zeros == f"{np.count_nonzero(drawn)} of {drawn.size} draws are not from their windows"


# -- rivals ---------------------------------------------------------------------------------------------


def names(found):
    return [rival.name for rival in found[0]]


def test_rivals_are_chosen_by_name(monkeypatch):
    monkeypatch.setattr(rivals, "installed", lambda package: "1.0")
    every = [rival.name for rival in rivals.RIVALS if rival.on_cpu]
    assert names(rivals.chosen(None, "cpu")) == every
    assert names(rivals.chosen(["torch"], "cpu")) == [name for name in every if name.startswith("torch-")]
    assert names(rivals.chosen(["torch-nchw", "scipy"], "cpu")) == ["torch-nchw", "scipy"]
    assert names(rivals.chosen(["none"], "cpu")) == []
    kinds = ("nchw", "channels_last", "separable", "compiled-nchw", "compiled-channels_last")
    assert names(rivals.chosen(None, "cuda")) == [f"torch-{kind}" for kind in kinds]
    with pytest.raises(MinetError, match="--against tf: no such rival"):
        rivals.chosen(["tf"], "cpu")
    with pytest.raises(MinetError, match="no such rival on cuda"):
        rivals.chosen(["scipy"], "cuda")


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(rivals, "installed", lambda package: "" if package == "torch" else "1.0")
    found = rivals.chosen(None, "cpu")
    assert (names(found), found[1]) == (["numpy", "dcls", "scipy"], ["torch"])
    with pytest.raises(MinetError, match="not installed: torch"):
        rivals.chosen(["torch"], "cpu")


def test_dcls_and_scipy_take_part_where_they_compute_the_same():
    can = {rival.name: {case.name for case in LAYERS if rival.can(case)} for rival in rivals.RIVALS}
    assert can["dcls"] == {LAYERS[2].name}
    assert can["scipy"] == {LAYERS[i].name for i in (0, 2, 3, 4, 5)}
    assert can["torch-separable"] == {LAYERS[i].name for i in (0, 1, 2, 14, 16, 19)}


# -- contests between fake contenders -------------------------------------------------------------------


class Fake:
    """A fake contender, by name: the values it computes, and the times it reports."""

    log: list
    y = {}
    ms = {}
    dies = ()
    phases = ["fprop", "fprop+bprop"]

    def __init__(self, name, folder):
        self.name, self.file = name, Path(folder, f"{name}.npz")

    def prove(self, case, how, against=None):
        self.log.append((self.name, how))
        if self.name in self.y and isinstance(self.y[self.name], str):
            raise contest.Failed(self.y[self.name])
        saved(self.file, y=np.array([self.y.get(self.name, 1.0)]), dx=np.ones(1))
        facts = {"bytes": dict.fromkeys(("fprop", "bprop", "fprop+bprop"), 1 << 20), "planned_mib": 1.0}
        facts["differs"] = compare.differs(case, against, self.file) if against else ""
        return {"phases": self.phases, **facts, "operations": dict.fromkeys(facts["bytes"], 0)}

    def milliseconds(self, phase):
        self.log.append((self.name, phase))
        if self.name in self.dies:
            raise contest.Failed("died with status -9: no error output")
        return self.ms.get(self.name, 2.0)

    def close(self):
        self.log.append((self.name, "close"))


@pytest.fixture
def fake(monkeypatch):
    cls = type("Fake", (Fake,), {"log": [], "y": {}, "ms": {"minet": 1.0}})
    monkeypatch.setattr(contest, "Contender", cls)
    return cls


def rows_of(case, *others):
    [rows] = contest.run([case], *others)
    return rows


def test_contenders_take_turns(fake):
    fake.ms["torch-nchw"] = 3.0
    rows = rows_of(LAYERS[3], TORCH[:2], "cpu", 2, PEAKS)
    timed = [entry for entry in fake.log if entry[1] == "fprop"]
    assert [name for name, _ in timed] == ["minet", "torch-nchw", "torch-channels_last"] * 2
    assert [row["phase"] for row in rows] == ["fprop", "fprop+bprop"]
    assert (rows[0]["rival"], rows[0]["ratio"], rows[0]["minet"]) == ("torch-channels_last", 2.0, 1.0)
    assert rows[0]["share"] == pytest.approx((1 << 20) / 4e9 * 1e3)
    assert {name for name, what in fake.log if what == "close"} >= {"minet", "torch-nchw"}


def test_a_rival_that_differs_is_named_and_not_timed(fake):
    fake.y["torch-nchw"] = 1.1
    rows = rows_of(LAYERS[3], TORCH[:2], "cpu", 1, PEAKS)
    assert rows[0]["notes"] == {"torch-nchw": "differs: y by 0.1 of its largest value"}
    assert "torch-nchw" not in rows[0]["times"]
    assert ("torch-nchw", "fprop") not in fake.log
    assert "torch-nchw differs: y by 0.1" in report.block(rows)


def test_minet_is_not_timed_if_no_rival_agrees_with_it(fake):
    fake.y["torch-nchw"] = 1.1
    rows = rows_of(LAYERS[3], TORCH[:1], "cpu", 1, PEAKS)
    assert rows[0]["minet"] is None
    assert rows[0]["times"] == {}
    text = report.block(rows)
    assert "minet was not timed: no rival agrees with it: torch-nchw differs" in text
    assert " ms " not in text
    assert "minet was not timed on MaxPool" in report.closing("cpu", rows)


def test_minet_is_not_timed_if_it_fails(fake):
    fake.y["minet"] = "y is not finite"
    rows = rows_of(LAYERS[3], TORCH[:1], "cpu", 1, PEAKS)
    assert [row["failed"] for row in rows] == ["y is not finite"] * 2
    assert {name for name, what in fake.log if what != "close"} == {"minet"}


def test_another_backend_must_agree_with_the_cpu(fake):
    fake.y["cpu"] = 1.1
    [row, *_] = rows_of(LAYERS[3], [], "cuda", 1, PEAKS)
    assert row["failed"].startswith("differs from the cpu backend: y by 0.09")


def test_a_rival_that_fails_is_reported_and_not_fatal(fake):
    fake.y["torch-nchw"] = "BackendCompilerFailed: no g++"
    fake.dies = ("torch-channels_last",)
    rows = rows_of(LAYERS[3], TORCH[:2], "cpu", 2, PEAKS)
    assert rows[0]["minet"] == 1.0
    assert rows[0]["rival"] is None
    assert rows[0]["notes"] == {
        "torch-nchw": "failed: BackendCompilerFailed: no g++",
        "torch-channels_last": "failed: died with status -9: no error output",
    }


def test_pytorch_is_compiled_in_the_format_that_suits_it(fake):
    fake.ms |= {"torch-nchw": 5.0, "torch-channels_last": 7.0}
    rows_of(LAYERS[3], TORCH, "cpu", 1, PEAKS)
    assert ("torch-compiled", ("contender_torch", "compiled+nchw", "cpu")) in fake.log


@pytest.mark.parametrize(("gib", "places"), [([8], 1), ([24], 2), ([80], 4), ([80, 16], 1), ([], 4)])
def test_a_cards_memory_decides_how_many_cases_are_proven_at_once(monkeypatch, gib, places):
    devices = [nvidia.Device("card", 9, 0, size << 30) for size in gib]
    monkeypatch.setattr(nvidia, "driver", lambda: ((13, 0), devices))
    assert contest.places_on("cuda") == places
    assert contest.places_on("cpu") == 1


def test_on_a_card_some_cases_are_proven_at_once_and_timed_one_by_one(fake, monkeypatch):
    """Each has contenders of its own; a failure concerns its case alone."""
    monkeypatch.setattr(contest, "places_on", lambda backend: 2)
    fake.phases = ["fprop", "bprop", "fprop+bprop"]
    fake.y["torch-nchw"] = 1.1
    chosen = [LAYERS[3], LAYERS[4], LAYERS[5]]
    found = contest.run(chosen, TORCH[:2], "cuda", 1, PEAKS)
    first = next(found)
    assert [name for name, what in fake.log if isinstance(what, tuple)].count("minet") == 2
    rest = list(found)
    assert [rows[0]["case"]["name"] for rows in (first, *rest)] == [case.name for case in chosen]
    for rows in (first, *rest):
        assert rows[0]["notes"] == {"torch-nchw": "differs: y by 0.1 of its largest value"}
        assert set(rows[0]["times"]) == {"minet", "torch-channels_last"}
    assert [name for name, what in fake.log if what == "close"].count("minet") == 2


# -- contests between real contenders -------------------------------------------------------------------


def test_two_cases_from_end_to_end(tmp_path):
    pytest.importorskip("scipy", reason="scipy is not installed")
    lines = []
    chosen = [LAYERS[3], cases.layer("PReLU", TINY)]
    files = tmp_path / "bench.json", tmp_path / "bench.png"
    rows = run.measure(chosen, SCIPY, "cpu", 2, PEAKS, *files, say=lines.append)
    assert [(row["case"]["layer"], row["phase"], row["rival"]) for row in rows] == [
        ("MaxPool", "fprop", "scipy"),
        ("MaxPool", "fprop+bprop", None),
        ("PReLU", "fprop", None),
        ("PReLU", "fprop+bprop", None),
    ]
    assert all(len(times) == 2 and min(times) > 0 for row in rows for times in row["times"].values())
    text = "\n".join(lines)
    assert "MaxPool 3x3 s2 4x9x8x5\n  fprop" in text
    assert "% of copy" in text
    assert lines[-1].strip().startswith("targets missed: ")
    written = json.loads(files[0].read_text())
    assert {"date", "machine", "card", "threads", "versions", "peaks", "backend", "rounds", "rows"} <= set(
        written
    )
    assert written["rows"] == json.loads(json.dumps(rows))
    assert files[1].read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not shutil.which("g++"), reason="the emulator needs g++")
def test_the_code_for_a_card_on_the_emulator():
    case = cases.layer("PReLU", (2, 3, 3, 2))
    rows = rows_of(case, [], "emu", 1, PEAKS)
    assert [(row["phase"], row["failed"]) for row in rows] == [
        ("fprop", ""),
        ("bprop", ""),
        ("fprop+bprop", ""),
    ]
    assert all(row["gb_per_s"] > 0 and row["bytes"] for row in rows)


@pytest.fixture
def contender(tmp_path):
    made = process.Contender("minet", tmp_path, threads=1)
    yield made
    made.close()


OURS = process.How("contender_minet", "", "cpu")


def test_one_process_serves_all_cases_and_starts_anew_after_an_error(contender):
    """What it failed on is lost, not what comes after."""
    small, other = (cases.layer("ReLU", (2, 3, 3, n)) for n in (2, 3))
    started = set()
    for case in (small, other):
        facts = contender.prove(case, OURS)
        assert facts["phases"] == ["fprop", "fprop+bprop"]
        with np.load(contender.file) as arrays:
            assert arrays["y"].shape == case.shape
        assert contender.milliseconds("fprop") > 0
        started.add(contender._process)
    [first] = started
    with pytest.raises(process.Failed, match=r"^AttributeError: .*Nonesuch"):
        contender.prove(cases.layer("Nonesuch", TINY), OURS)
    assert first.returncode is not None
    assert contender.prove(small, OURS)["phases"]
    assert contender._process is not first


def test_a_layer_that_ends_the_process_is_named(contender, tmp_path):
    file = tmp_path / "leaves.py"
    file.write_text(
        "from minet.layers import Identity\n\n\nclass Leaves(Identity):\n"
        "    def fprop(self, x, y, beta=0.0, train=True):\n        raise SystemExit\n\n"
        "    @classmethod\n    def examples(cls):\n        yield cls, (2, 3, 3)\n"
    )
    case = cases.Case("leaves", f"{file}:Leaves", (2, 3, 3, 2), {"example": 0})
    with pytest.raises(process.Failed, match=r"^SystemExit: no message"):
        contender.prove(case, OURS)


def test_a_process_that_dies_or_keeps_silent_is_given_up(contender, monkeypatch):
    case = cases.layer("ReLU", (2, 3, 3, 2))
    contender.prove(case, OURS)
    contender._process.kill()
    with pytest.raises(process.Failed, match=r"^died with status -9: no error output"):
        contender.milliseconds("fprop")
    contender.prove(case, OURS)
    silent = contender._process
    monkeypatch.setattr(process, "PATIENCE", 0)
    with pytest.raises(process.Failed, match=r"^no answer in 0 s"):
        contender.milliseconds("fprop+bprop")
    assert silent.returncode == -9


def test_a_process_ends_with_its_parent_in_the_midst_of_a_case(contender):
    contender.prove(cases.layer("ReLU", (2, 3, 3, 2)), OURS)
    child, long = contender._process, cases.layer("ReLU", (64, 64, 64, 64))
    child.stdin.write(json.dumps(["prove", *OURS, long.as_dict(), ""]) + "\n")
    child.stdin.close()
    assert child.wait(60) == 0
    assert child.stdout.read() == ""


@pytest.mark.slow
def test_a_models_memory_is_counted_in_a_process_of_its_own(contender):
    model = cases.model("cifar10_zeiler", 2)
    contender.prove(cases.layer("ReLU", (2, 3, 3, 2)), OURS, keep=False)
    first = contender._process
    assert contender.prove(model, OURS, keep=False)["mib"] > 0
    assert contender._process is not first
    assert not contender.file.exists()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="the emulator needs g++")
def test_what_a_card_needs_is_compiled_ahead(tmp_path, monkeypatch):
    monkeypatch.setenv("MINET_CACHE", str(tmp_path))
    chosen = [cases.layer("ReLU", (2, 3, 3, 2)), cases.layer("PReLU", (2, 3, 3, 2))]
    assert ahead.compile_ahead(chosen, [], "emu") == 4
    compiled = sorted(file.name for file in tmp_path.iterdir())
    assert compiled
    assert all(row["minet"] for rows in contest.run(chosen, [], "emu", 1, None) for row in rows)
    assert sorted(file.name for file in tmp_path.iterdir()) == compiled
    assert ahead.compile_ahead([cases.layer("Nonesuch", TINY)], [], "emu") == 0
    monkeypatch.setattr(ahead, "LIMIT", -1)
    assert ahead.compile_ahead(chosen, [], "emu") == 0


def test_the_longest_is_compiled_first_and_pytorch_in_each_form():
    found = ahead.jobs([LAYERS[0], MODELS[0]], ON_CARD, "cuda")
    assert [case for case, _ in found] == [MODELS[0]] * 4 + [LAYERS[0]] * 4
    assert [how for _, how in found[:4]] == [
        ("contender_torch", "compiled+nchw", "cuda"),
        ("contender_torch", "compiled+channels_last", "cuda"),
        ("contender_minet", "", "cpu"),
        ("contender_minet", "", "cuda"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("case", [*LAYERS, *MODELS], ids=named)
def test_minet_computes_what_it_is_timed_on(case, tmp_path):
    built = contender_minet.build(case, "", "cpu")
    assert compare.wrong(case, saved(tmp_path / "minet.npz", **built.results())) == ""
    for phase in case.phases_on("cpu"):
        built.phases[phase]()
        assert built.facts["bytes"][phase] or built.facts["operations"][phase]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["nchw", "channels_last", "separable+channels_last"])
@pytest.mark.parametrize("case", [*LAYERS, *MODELS], ids=named)
def test_pytorch_agrees(case, variant, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    from minet.bench import contender_torch

    agree(case, contender_torch.build(case, variant, "cpu"), tmp_path, case.phases_on("cuda"))


@pytest.mark.parametrize("kernels", [1, 3])
@pytest.mark.parametrize(("window", "stride"), [(2, 1), (5, 2)])
def test_dcls_agrees(window, stride, kernels, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("DCLS", reason="DCLS is not installed")
    from minet.bench import contender_dcls

    case = cases.layer("GaussianPool", TINY, window=window, stride=stride, kernels=kernels, edge="zero")
    agree(case, contender_dcls.build(case, "channels_last", "cpu"), tmp_path, case.phases_on("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in LAYERS if SCIPY[0].can(case)], ids=named)
def test_scipy_agrees(case, tmp_path):
    pytest.importorskip("scipy", reason="scipy is not installed")
    from minet.bench import contender_scipy

    agree(case, contender_scipy.build(case, "", "cpu"), tmp_path, ("fprop",))


def agree(case, rival, folder, phases):
    ours = saved(folder / "ours.npz", **contender_minet.build(case, "", "cpu").results())
    theirs = saved(folder / "theirs.npz", **rival.results())
    assert compare.wrong(case, theirs) == ""
    assert compare.differs(case, ours, theirs, whole=len(phases) > 1) == ""
    for phase in phases:
        rival.phases[phase]()


# -- clocks and peaks -----------------------------------------------------------------------------------


class Event:
    now = 0.0

    def record(self):
        self.at = Event.now

    def synchronize(self):
        pass


def test_a_card_is_timed_by_events_behind_other_work():
    log = []

    def call():
        log.append("call")
        Event.now += 2.5

    watch = timers.CardWatch(Event, lambda a, b: b.at - a.at, lambda: log.append("busy"))
    assert watch.seconds(call, queued=True) == 2.5e-3
    assert log == ["busy", "call"]
    assert watch.seconds(call) == 2.5e-3  # of each step of several, one behind the other
    assert log == ["busy", *["call"] * (1 + timers.STEPS)]


def test_a_measurement_is_a_median_after_a_warm_up():
    class Watch:
        calls = 3

        def seconds(self, call, queued=False):
            return call()

    times = iter([100.0, 3.0, 1.0, 2.0])
    assert timers.measure(Watch(), lambda: next(times), False, least=0) == 2.0


def test_the_hosts_memory_counts_from_the_start():
    code = """
import numpy as np
from minet.bench import timers

watch = timers.HostWatch()
watch.forget_peak()
before = watch.peak_mib()
held = np.ones(64 << 20, np.uint8)
print(watch.peak_mib() - before)
"""
    # In a process of its own: here garbage of other tests, freed meanwhile, would make up for it.
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 60 < float(found.stdout) < 80


def test_peaks_are_measured_on_any_backend():
    found = peaks.card_peaks(backends.get("cpu"), timers.HostWatch(), [1 << 12, 1 << 14], 16)
    assert [size for size, _ in found["copy"]] == [1 << 12, 1 << 14]
    assert min(speed for _, speed in found["copy"]) > 0
    assert found["product"] > 0
    for call in peaks.host_copies(1 << 12):
        call()
    assert peaks.product("numpy", 16) > 0


# -- growth, overhead and start-up ----------------------------------------------------------------------


def test_exponents_are_those_of_the_growth():
    points = [(float(n), 1e-3 * n**1.5) for n in scaling.FACTORS]
    assert scaling.exponents(points) == (pytest.approx(1.5), pytest.approx(1.5))
    bent = [(float(n), 50.0 + n) for n in scaling.FACTORS]
    both, upper = scaling.exponents(bent)
    assert both < upper < 1


def test_growth_is_drawn(tmp_path, monkeypatch):
    from minet.bench import plot

    lines = []
    monkeypatch.setattr(scaling, "FIXED", {"N": 2, "C": 2, "H*W": 64, "kernels": 1})
    found = scaling.curves(["GaussianPool", "PReLU"], factors=(1, 2), least=0, say=lines.append)
    assert {axis: sorted(each) for axis, each in found.items()} == {
        "N": ["GaussianPool", "PReLU"],
        "C": ["GaussianPool", "PReLU"],
        "H*W": ["GaussianPool", "PReLU"],
        "kernels": ["GaussianPool"],
    }
    assert len(lines) == 7
    assert [size for size, _ in found["H*W"]["PReLU"]] == [64, 121]
    plot.growth(tmp_path / "growth.png", "growth", found)
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("cls", [overhead.Empty, overhead.EmptyWithParam])
def test_a_step_of_empty_layers(cls):
    assert overhead.step_of(cls, 3, 0) > 0


def test_the_loader_is_timed_with_the_step(capsys, monkeypatch):
    batch, step, images = loader.both("digits", least=0)
    assert min(batch, step) > 0 and images == 32
    monkeypatch.setattr(loader, "both", lambda name, backend: (3.0, 5.0, 60))
    assert loader.main(["digits"]) == 0
    line = capsys.readouterr().out
    assert "20,000 images/s" in line and "ratio    1.7  < target: at least 2" in line
    monkeypatch.setattr(loader, "each", lambda name: {"none": 1.0, "Flip": 3.0})
    assert loader.main(["digits", "--augment"]) == 0
    _, none, flip = capsys.readouterr().out.splitlines()
    assert none.startswith("  none") and none.endswith("5.0") and "ratio    1.7  < target" in flip
    monkeypatch.undo()
    found = loader.each("digits", least=0)
    assert list(found) == ["none", "Flip", "Shift", "Crop", "Cutout", "Brightness", "all"]
    assert min(found.values()) > 0
    assert loader.main(["nonesuch"]) == 2
    assert "there is no model 'nonesuch'" in capsys.readouterr().err


def test_start_up_ends_with_the_first_step(capsys):
    assert startup.main(["digits", "--runs", "1"]) == 0
    assert "s to the end of the first step" in capsys.readouterr().out
    assert startup.main(["nonesuch"]) == 2
    assert "there is no model 'nonesuch'" in capsys.readouterr().err


# -- the command ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "emu"], "the emulator is for testing, not for timing"),
        (["--backend", "tpu"], "there is no backend 'tpu' to time"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["nonesuch", "--against", "none"], "no case's name contains 'nonesuch'"),
        (["LRN", "--against", "tf"], "--against tf: no such rival on cpu"),
        (["LRN", "--json", "no/where.json"], "no/where.json: folder no does not exist"),
    ],
)
def test_what_cannot_be_timed_is_refused(arguments, message):
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert done.exit_code == 2
    assert f"error: {message}" in done.stderr


def test_a_missing_card_is_refused(monkeypatch):
    monkeypatch.setattr(backends, "missing", lambda name: "there is no NVIDIA driver")
    done = CliRunner().invoke(app, ["bench", "--backend", "cuda"])
    assert (done.exit_code, "error: there is no NVIDIA driver" in done.stderr) == (2, True)


def test_rows_under_their_target_leave_the_exit_status_alone(monkeypatch, fake):
    monkeypatch.setattr(peaks, "measured", lambda backend: PEAKS)
    monkeypatch.setattr(cases, "chosen", lambda words, everything: [LAYERS[3]])
    monkeypatch.setattr(rivals, "installed", lambda package: "1.0" if package == "torch" else "")
    fake.ms["torch-nchw"] = 1.5
    done = CliRunner().invoke(app, ["bench", "--rounds", "1"])
    assert done.exit_code == 0
    assert "DCLS is not installed, so it is left out" in done.stdout
    assert "  < target" in done.stdout
    under = "MaxPool 3x3 s2 4x9x8x5, fprop+bprop"
    assert done.stdout.endswith(
        f"targets missed: 2\n  {under}: share 0.26, target >= 0.5\n  {under}: ratio 1.50, target >= 2\n"
    )
