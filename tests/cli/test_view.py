"""`minet view`: a page of any run, complete or not; if there is nothing to show, one message and no file."""

import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from run_pages import TOY, minet, page

from minet.train import checkpoint, kernel_log

LAYERS = """Conv(3, 3, pad=1), ReLU(),
        Concat(GaussianPool(3, stride=1, pad=1), GaussianPool(5, 1, 2, kernels=2, per_channel=False)),
        MaxPool(2), StochasticPool(2),"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a model file and a run of it of two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    text = TOY.read_text().replace("Linear(width), BatchNorm(), PReLU(), Dropout(rate),", LAYERS, 1)
    names = "Conv, GaussianPool, Linear, MaxPool, ReLU, StochasticPool"
    text = text.replace("import SGD", "import SGD, Concat").replace(
        "BatchNorm, Dropout, Linear, PReLU", names
    )
    (folder / "toy.py").write_text(text)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        result = minet("train", "toy.py")
    assert result.exit_code == 0, result.output
    assert "kernels.jsonl" in result.stdout
    return folder


@pytest.fixture(autouse=True)
def folder(trained, tmp_path, monkeypatch):
    """Run each test in a copy of that folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def viewed(*args):
    """The page's root, without namespaces, and what was said of it."""
    return page("view", *args)


def refused(*args):
    """The message of a call that must fail cleanly and leave nothing behind."""
    before = sorted(Path().rglob("*"))
    result = minet("view", *args)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("error:") == 1
    assert sorted(Path().rglob("*")) == before
    return result.stderr


def paths(root):
    """The paths of the layers that a page shows."""
    return [heading.findtext("code") for heading in root.iter("h3")]


def test_a_page_shows_each_kernel_and_each_pool_and_loads_nothing():
    root, said = viewed("runs/toy")
    assert said == ""
    assert paths(root) == ["2/0", "2/1", "3", "4"]
    assert [i.get("id") for i in root.iter("input")] == ["play", "e0", "e1", "e2"]
    told = " ".join(" ".join(root.itertext()).split())
    assert "epochs 2" in told and re.search(r"test accuracy \d+\.\d\d %", told) and "digits test" in told
    text = Path("runs/toy/view.html").read_text()
    assert "<script" not in text and len(text) < 500_000
    assert all(image.get("href").startswith("data:image/png;base64,") for image in root.iter("image"))
    labels = [figure.findtext("figcaption") for figure in root.iter("figure")]
    assert len({label for label in labels if label.startswith("label ")}) == 3


def test_a_page_is_the_same_each_time_and_can_be_written_elsewhere():
    viewed("runs/toy")
    viewed("runs/toy", "--out", "page.html")
    assert Path("page.html").read_bytes() == Path("runs/toy/view.html").read_bytes()


@pytest.mark.parametrize("name", ["runs/toy", "runs/toy/weights.safetensors", "toy", "toy.py"])
def test_a_run_is_given_by_its_folder_its_name_or_its_model(name):
    viewed(name)
    assert Path("runs/toy/view.html").is_file()


def test_a_run_that_ended_before_its_first_checkpoint_shows_its_kernels():
    Path("runs/toy/weights.safetensors").unlink()
    root, said = viewed("runs/toy")
    assert paths(root) == ["2/0", "2/1"]
    assert said.startswith(
        "note: what pooling picked is left out: runs/toy/weights.safetensors: no such file"
    )
    assert "left out" in "".join(root.find(".//footer").itertext())


def test_a_run_without_a_log_of_kernels_shows_them_at_both_ends():
    Path("runs/toy/kernels.jsonl").unlink()
    root, said = viewed("runs/toy")
    assert paths(root) == ["2/0", "2/1", "3", "4"]
    assert [i.get("id") for i in root.iter("input")] == ["play", "e0", "e2"]
    assert said.startswith("note: no kernels.jsonl: ")


def test_both_ends_are_what_the_log_has():
    with_log, _ = viewed("runs/toy")
    lines = Path("runs/toy/kernels.jsonl").read_text().splitlines()
    Path("runs/toy/kernels.jsonl").write_text("\n".join([lines[0], lines[2]]))
    two, _ = viewed("runs/toy")
    Path("runs/toy/kernels.jsonl").unlink()
    without, _ = viewed("runs/toy")
    cards = [[ElementTree.tostring(c) for c in root.iter("svg")] for root in (two, without)]
    assert cards[0] == cards[1]
    assert cards[0] != [ElementTree.tostring(c) for c in with_log.iter("svg")]


def test_a_model_file_that_is_missing_or_has_changed_is_not_run():
    text = Path("toy.py").read_text()
    Path("toy.py").write_text(text + "\nimport pathlib\n\npathlib.Path('ran').touch()\n")
    root, said = viewed("runs/toy")
    assert paths(root) == ["2/0", "2/1"] and not Path("ran").exists()
    assert "toy.py: has changed since runs/toy/weights.safetensors\n  hint: --model toy.py" in said
    root, said = viewed("runs/toy", "--model", "toy.py")
    assert paths(root) == ["2/0", "2/1", "3", "4"] and Path("ran").exists() and not said
    Path("toy.py").rename("other.py")
    root, said = viewed("runs/toy")
    assert (
        "toy.py: no such file, the model of runs/toy/weights.safetensors\n  hint: name it with --model"
        in said
    )
    assert paths(viewed("runs/toy", "--model", "other.py")[0]) == ["2/0", "2/1", "3", "4"]
    arrays, facts = checkpoint.read("runs/toy/weights.safetensors")
    del facts["text"]
    checkpoint.write("runs/toy/weights.safetensors", arrays, facts)
    assert "does not say of which model file it is\n  hint: name it with --model" in viewed("runs/toy")[1]


def test_a_net_that_does_not_fit_is_told():
    Path("toy.py").write_text(Path("toy.py").read_text().replace("Conv(3, 3", "Conv(4, 3"))
    root, said = viewed("runs/toy", "--model", "toy.py")
    assert paths(root) == ["2/0", "2/1"]
    assert "does not fit this net" in said


def test_a_run_with_pools_alone_shows_them():
    text = Path("toy.py").read_text()
    Path("pools.py").write_text(re.sub(r"Concat\(Gauss.*\n", "\n", text))
    assert minet("train", "pools.py", "--epochs", 1).exit_code == 0
    root, said = viewed("pools.py")
    assert paths(root) == ["2", "3"] and not said
    assert not Path("runs/pools/kernels.jsonl").exists()


def test_a_run_without_either_is_refused():
    shutil.copy(TOY, "plain.py")
    assert minet("train", "plain.py", "--epochs", 1).exit_code == 0
    message = refused("plain.py")
    assert message == (
        "error: runs/plain: nothing to view: its net has no GaussianPool, MaxPool or StochasticPool\n"
        "  hint: curves.png in that folder shows its training\n"
    )
    Path("plain.py").unlink()
    assert "nothing to view: plain.py: no such file" in refused("runs/plain")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nowhere",), "nowhere: no such run\n  hint: there are: runs/toy\n"),
        (("runs",), "runs: holds no weights.safetensors or log.jsonl"),
        (("digits",), "runs/digits: no run of digits"),
        (("runs/toy", "--model", "none.py"), "--model none.py: no such file"),
        (("toy", "--out", "page.svg"), "--out writes HTML, got page.svg\n  hint: --out page.html"),
        (("toy", "--out", "no/page.html"), "no/page.html: cannot be written"),
        (("toy", "--data-dir", "nowhere"), "--data-dir nowhere: no such folder"),
        (("a" * 999,), "no such run"),
    ],
)
def test_what_cannot_be_viewed_is_refused_and_nothing_is_written(args, message):
    assert message in refused(*args)


def test_where_there_are_no_runs_the_hint_is_to_train():
    shutil.rmtree("runs")
    assert "hint: minet train MODEL" in refused("toy-2")


def test_a_log_that_is_damaged_is_shown_up_to_there():
    path = Path("runs/toy/kernels.jsonl")
    path.write_text(path.read_text()[:-40])
    assert [epoch for epoch, *_ in kernel_log.lines(path)] == [0, 1]
    root, _ = viewed("runs/toy")
    assert [i.get("id") for i in root.iter("input")] == ["play", "e0", "e1"]


def test_no_page_is_left_in_part_where_the_disk_is_full(monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "runs/toy/view.html: cannot be written: No space left on device" in refused("runs/toy")
