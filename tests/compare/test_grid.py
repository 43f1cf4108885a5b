"""Which runs a comparison needs: values, combinations, those that are one, and their folders."""

from pathlib import Path

import pytest

from minet import MinetError
from minet.compare.grid import axes, check, combinations, jobs, left, named, split
from minet.runs import runs

TOY = Path(__file__).parents[1] / "helpers/toy.py"
POOLS = """
def net(pool="max", kernels=1, learn=True):
    return Sequential(
        MaxPool(2) if pool == "max" else GaussianPool(2, kernels=kernels, learn=learn), Linear(10)
    )
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("toy.py").write_text(TOY.read_text())
    text = TOY.read_text().replace("BatchNorm, Dropout, Linear, PReLU", "GaussianPool, Linear, MaxPool")
    start, end = text.index("def net"), text.index("def solver")
    Path("pools.py").write_text(text[:start] + POOLS + "\n\n" + text[end:])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1,2,3", ["1", "2", "3"]),
        ("max, avg", ["max", "avg"]),
        ("(1, 2),[3,(4,5)]", ["(1, 2)", "[3,(4,5)]"]),
        ("'a,b',\"c,'\"", ["'a,b'", '"c,\'"']),
        ("{'mean','sigma'}", ["{'mean','sigma'}"]),
        ("1,", ["1", ""]),
    ],
)
def test_values_are_split_outside_of_brackets_and_quotes(text, parts):
    assert split(text) == parts


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["kernels"], "--set kernels: is not NAME=VALUE,VALUE"),
        (["=1"], "is not NAME=VALUE,VALUE"),
        (["kernels=1,,2"], "is not NAME=VALUE,VALUE"),
        (["kernels=1,2,1"], "has 1 twice"),
        (["kernels=1", "kernels=2"], "kernels is given twice\n  hint: --set kernels=1,2"),
    ],
)
def test_mistakes_in_settings_are_refused(items, message):
    with pytest.raises(MinetError) as error:
        axes(items)
    assert message in str(error.value)


def test_every_combination_in_the_order_of_its_settings():
    model, found = combinations("toy.py", [("width", [4, 8]), ("lr", [0.1]), ("rate", [0.0, 0.5])], epochs=3)
    assert model.name == "toy"
    assert [one.settings for one in found] == [
        {"epochs": 3, "width": width, "lr": 0.1, "rate": rate} for width in (4, 8) for rate in (0.0, 0.5)
    ]
    assert [one.name for one in found][:2] == ["width=4 rate=0.0", "width=4 rate=0.5"]


def test_combinations_that_make_one_net_are_one():
    grid = [("kernels", [1, 2, 3]), ("pool", ["max", "gaussian"]), ("learn", [True, False])]
    _, found = combinations("pools.py", grid)
    assert [one.name for one in found] == [
        "kernels=1/2/3 pool=max learn=True/False",
        *(f"kernels={k} pool=gaussian learn={learn}" for k in (1, 2, 3) for learn in (True, False)),
    ]
    assert found[0].settings == {"kernels": 1, "pool": "max", "learn": True}


@pytest.mark.parametrize("name", ["crop", "lr", "epochs", "batch"])
def test_what_others_than_the_net_take_makes_a_difference(name):
    values = {"crop": [0, 1], "lr": [0.1, 0.2], "epochs": [1, 2], "batch": [16, 32]}[name]
    assert len(combinations("toy.py", [(name, values)])[1]) == 2


def test_nets_that_cannot_be_compared_are_trained_each():
    text = Path("pools.py").read_text()
    Path("pools.py").write_text(
        text.replace("Linear(10)", "Linear(10, init=lambda shape, rng: rng.random(shape))")
    )
    assert len(combinations("pools.py", [("kernels", [1, 2])])[1]) == 2
    Path("pools.py").write_text(
        text.replace("MaxPool(2)", "MaxPool(kernels - 2)")
    )  # its run tells what is wrong
    assert len(combinations("pools.py", [("kernels", [1, 2])])[1]) == 2


def test_a_setting_that_the_model_does_not_have_is_refused():
    with pytest.raises(MinetError, match="has no setting 'widht'"):
        combinations("toy.py", [("widht", [1])])
    with pytest.raises(MinetError, match="width must be of type int"):
        combinations("toy.py", [("width", [4, "max"])])


def test_runs_go_seed_by_seed_in_folders_of_their_settings():
    _, found = combinations("toy.py", [("width", [4, 8])], epochs=1)
    planned = jobs(found, 2, Path("out"))
    assert [str(job.folder) for job in planned] == [
        f"out/epochs=1,width={width},seed={seed}" for seed in (0, 1) for width in (4, 8)
    ]
    assert [job.label for job in planned][:3] == ["width=4 seed=0", "width=8 seed=0", "width=4 seed=1"]
    assert jobs(combinations("toy.py", [])[1], 1, Path("out"))[0].label == "seed=0"


def test_names_of_folders():
    assert named({"b": 1, "a": (1, 2)}, 0).startswith("a=(1,_2),b=1,seed=0-")
    assert named({"b": 1, "a": "x"}, 0) == named({"a": "x", "b": 1}, 0) == "a=x,b=1,seed=0"
    assert named({"seed": 1}, 0) != named({"seed": 2}, 0)
    strange = [named({"a": value}, 0) for value in ("../x", "..\\x", "a b", "a_b", "y" * 500, "y" * 501)]
    assert len(set(strange)) == len(strange)
    assert all(
        "/" not in name and "\\" not in name and " " not in name and len(name) < 200 for name in strange
    )


def planned(**settings):
    model, found = combinations("toy.py", [(name, [value]) for name, value in settings.items()])
    (job,) = jobs(found, 1, Path("out"))
    return model, job


def test_what_is_left_of_a_run():
    model, job = planned(width=4)
    assert check(job, model) is None and left(job, None) == "train"
    runs.train("toy.py", {"width": 4}, out=job.folder)
    assert left(job, check(job, model)) == ""
    (job.folder / "log.jsonl").write_text((job.folder / "log.jsonl").read_text().splitlines()[0] + "\n")
    assert left(job, check(job, model)) == ""  # the checkpoint has both epochs


def test_a_folder_with_another_run_is_refused():
    model, job = planned(width=4)
    runs.train("toy.py", {"width": 8, "epochs": 1}, out=job.folder)
    with pytest.raises(
        MinetError, match="holds another run: toy width=8 epochs=1\n  hint: choose another --out"
    ):
        check(job, model)


def test_a_model_file_that_has_changed_is_refused():
    runs.train("toy.py", {"width": 4}, out=planned(width=4)[1].folder)
    Path("toy.py").write_text(TOY.read_text() + "\n# a comment\n")
    assert check(*reversed(planned(width=4))) is not None
    Path("toy.py").write_text(TOY.read_text() + "\nOTHER = 1\n")
    with pytest.raises(MinetError, match=r"toy\.py has changed since this run began"):
        check(*reversed(planned(width=4)))


def test_a_layer_that_was_edited_beside_the_model_file_is_refused():
    Path("beside.py").write_text("from minet.layers import PReLU\n")
    Path("toy.py").write_text(TOY.read_text().replace(", PReLU", "\nfrom beside import PReLU", 1))
    runs.train("toy.py", {"width": 4}, out=planned(width=4)[1].folder)
    Path("beside.py").write_text("from minet.layers import ReLU as PReLU\n")
    with pytest.raises(MinetError, match=r"beside\.py has changed since this run began\n  hint: choose ano"):
        check(*reversed(planned(width=4)))


def test_a_net_with_a_layer_of_the_model_file_is_known_again():
    text = Path("pools.py").read_text()
    own = "from minet.layers import Identity\n\n\nclass Mine(Identity):\n    pass\n\n\ndef net("
    Path("own.py").write_text(
        text.replace("def net(", own, 1).replace("return Sequential(", "return Sequential(Mine(),", 1)
    )
    _, found = combinations("own.py", [("pool", ["max"]), ("kernels", [1, 2])])
    assert len(found) == 1
