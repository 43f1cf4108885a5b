"""`minet report`: a page of any run, whatever is left of it, which a browser shows and fetches nothing."""

import json
import re
import shutil
from pathlib import Path

import pytest
from run_pages import TOY, minet, page

from minet.train import checkpoint

RUN = Path("runs/toy")
SECTIONS = ["curves", "confusion", "mistakes", "kernels", "graph", "repeat"]
WIDTHS = (1200, 360)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a model file that has branches of Gaussian kernels, and a run of it of three epochs."""
    folder = tmp_path_factory.mktemp("trained")
    layers = "Conv(3, 3, pad=1), Concat(GaussianPool(3, 1, 1), GaussianPool(5, 1, 2, kernels=2)), PReLU(),"
    text = TOY.read_text().replace("Linear(width), BatchNorm(), PReLU(), Dropout(rate),", layers, 1)
    text = text.replace("import SGD", "import SGD, Concat")
    (folder / "toy.py").write_text(text.replace("BatchNorm, Dropout,", "Conv, GaussianPool,"))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        result = minet("train", "toy.py", "--epochs", 3, "--set", "lr=0.04", "--seed", 1)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(autouse=True)
def folder(trained, tmp_path, monkeypatch):
    """Run each test in a copy of that folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def reported(*args):
    """The page's root, without namespaces, its text in one line, and what was said of it."""
    root, said = page("report", *args)
    return root, " ".join(" ".join(root.itertext()).split()), said


def sections(root):
    return [one.get("id") for one in root.iter("section")]


def refused(*args):
    before = sorted(Path().rglob("*"))
    result = minet("report", *args)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("error:") == 1
    assert sorted(Path().rglob("*")) == before
    return result.stderr


def test_a_page_has_all_that_is_known():
    root, told, said = reported("runs/toy")
    assert sections(root) == SECTIONS and said == ""
    assert [a.get("href") for a in root.iter("a")] == [f"#{name}" for name in SECTIONS]
    assert re.search(r"state finished epochs 3 test accuracy [\d.]+ % test loss [\d.]+ time", told)
    assert [one.findtext("h4") for one in root.iter("div") if one.get("class") == "chart"] == [
        "loss", "test accuracy", "learning rate",
    ]  # fmt: skip
    assert "y[0:3]" in told and "y[3:9]" in told
    assert "minet train toy.py --epochs 3 --seed 1 --set lr=0.04" in told
    assert "digits test: 96 images" in told and "processor" in told
    assert [i.get("id") for i in root.iter("input")] == ["play", "e0", "e1", "e2", "e3"]
    assert "def datasets(limit=96, crop=1):" in told


def test_the_numbers_are_those_of_the_log_and_of_the_test():
    root, told, _ = reported("runs/toy")
    records = [json.loads(line) for line in (RUN / "log.jsonl").read_text().splitlines()]
    titles = [one.text for one in root.iter("title")]
    for record in records:
        assert f"train, {record['epoch']}: {record['loss']:.4f}" in titles
        assert f"test, {record['epoch']}: {100 * record['accuracy']:.2f} %" in titles
    wrong = round(96 * (1 - records[-1]["accuracy"]))
    assert f"{wrong} of 96 images of digits test are taken for another class" in told
    assert len([one for one in root.iter("figure")]) == min(wrong, 24)


def test_a_browser_shows_it_and_fetches_nothing(browser):
    reported("runs/toy")
    for width in WIDTHS:
        for dark in (False, True):
            page = browser.open(RUN / "report.html", width, dark)
            assert (page.fetched, page.errors, page.wide) == ([], [], [])
            assert page.width <= width
            assert page.pictures and all(page.pictures)
            assert "Confusion matrix" in page.text and "How to reproduce" in page.text


def test_a_browser_would_tell_what_is_wrong(browser, tmp_path):
    bad = '<img src="http://127.0.0.1:9/a.png"/><p style="width:2000px">x</p><script>missing()</script>'
    (tmp_path / "bad.html").write_text(f"<!DOCTYPE html><html><body>{bad}</body></html>")
    page = browser.open(tmp_path / "bad.html", 360)
    assert page.fetched == ["http://127.0.0.1:9/a.png"] and page.pictures == [False]
    assert any("missing is not defined" in error for error in page.errors)
    assert page.width > 360 and page.wide


def test_a_page_is_the_same_each_time_and_can_be_written_elsewhere():
    reported("runs/toy")
    reported("toy", "--out", "page.html")
    assert Path("page.html").read_bytes() == (RUN / "report.html").read_bytes()
    assert b"<script" not in Path("page.html").read_bytes()


def test_a_log_alone_makes_a_page(browser):
    shutil.copytree(RUN, "only", ignore=lambda _, names: set(names) - {"log.jsonl"})
    root, told, said = reported("only")
    assert sections(root) == ["curves", "repeat"]
    assert "does not say of which model file it is" in said
    assert "it has neither run.json nor a checkpoint" in told and "its run ended before" in told
    page = browser.open(Path("only/report.html"), 360)
    assert (page.fetched, page.errors, page.wide) == ([], [], [])


def test_a_run_without_a_checkpoint_shows_all_but_what_needs_it():
    (RUN / "weights.safetensors").unlink()
    assert sections(reported("runs/toy")[0]) == SECTIONS  # from the checkpoint before it
    shutil.rmtree(RUN / "checkpoints")
    (RUN / "best.safetensors").unlink()
    root, told, said = reported("runs/toy")
    assert sections(root) == ["curves", "kernels", "graph", "repeat"]
    left = "note: the confusion matrix and the mistakes are left out: "
    assert said == f"{left}runs/toy/weights.safetensors: no such file\n"
    assert "state broken" in told and "are left out" in "".join(root.find(".//footer").itertext())


def test_a_run_that_was_killed():
    arrays, facts = checkpoint.read(RUN / "weights.safetensors")
    checkpoint.write(RUN / "weights.safetensors", arrays, facts | {"epoch": 2})
    lines = (RUN / "log.jsonl").read_text().splitlines(keepends=True)
    (RUN / "log.jsonl").write_text("".join(lines[:2]) + lines[2][:30])
    facts = json.loads((RUN / "run.json").read_text())
    (RUN / "run.json").write_text(json.dumps({name: facts[name] for name in facts if name != "ended"}))
    root, told, said = reported("runs/toy")
    assert sections(root) == SECTIONS and said == ""
    assert "state interrupted epochs 2 of 3" in told


def test_a_run_that_failed_says_why():
    facts = json.loads((RUN / "run.json").read_text())
    (RUN / "run.json").write_text(json.dumps(facts | {"error": "the loss is nan <after> step 3"}))
    _, told, _ = reported("runs/toy")
    assert "state broken" in told and "the loss is nan <after> step 3" in told


def test_a_model_file_that_has_changed_is_not_run():
    text = Path("toy.py").read_text()
    Path("toy.py").write_text(text + "\nimport pathlib\n\npathlib.Path('ran').touch()\n")
    root, _, said = reported("runs/toy")
    assert sections(root) == ["curves", "kernels", "repeat"] and not Path("ran").exists()
    assert "toy.py: has changed since runs/toy/run.json\n  hint: --model toy.py" in said
    root, _, said = reported("runs/toy", "--model", "toy.py")
    assert sections(root) == SECTIONS and Path("ran").exists() and not said


def test_a_run_of_an_earlier_version_has_its_page():
    (RUN / "run.json").unlink()
    (RUN / "kernels.jsonl").unlink()
    root, told, said = reported("runs/toy")
    assert sections(root) == SECTIONS
    assert said.startswith("note: no kernels.jsonl: ")
    assert "minet train toy.py --epochs 3 --seed 1 --set lr=0.04" in told


def test_a_regression_has_no_classes(browser):
    shutil.copy(TOY.with_name("regression.py"), "regression.py")
    assert minet("train", "regression.py", "--epochs", 1).exit_code == 0
    root, _, said = reported("regression.py")
    assert sections(root) == ["curves", "graph", "repeat"]
    assert "left out: the net does not tell classes apart" in said
    assert not browser.open(Path("runs/regression/report.html"), 360).wide


def test_whatever_a_run_says_is_text(browser):
    evil = "<script>alert(1)</script>\"'&\x00\x1b\udc80"
    facts = json.loads((RUN / "run.json").read_text())
    facts |= {"model": evil, "file": evil, "error": evil, "settings": {evil: evil}, "data": [evil]}
    facts |= {"machine": {evil: evil}, "defaults": {evil: evil}, "began": evil, "backend": evil, "text": evil}
    (RUN / "run.json").write_text(json.dumps(facts))
    lines = (RUN / "log.jsonl").read_text().splitlines()
    (RUN / "log.jsonl").write_text("\n".join(json.dumps(json.loads(line) | {evil: 1.0}) for line in lines))
    kernels = (RUN / "kernels.jsonl").read_text()
    (RUN / "kernels.jsonl").write_text(kernels.replace("GaussianPool(3", "<script>alert(1)</script>"))
    root, told, _ = reported("runs/toy")
    assert "<script>alert(1)</script>" in told and not list(root.iter("script"))
    page = browser.open(RUN / "report.html", 360)
    assert (page.fetched, page.errors, page.wide) == ([], [], [])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nowhere",), "nowhere: no such run"),
        (("toy", "--out", "page.svg"), "--out writes HTML, got page.svg\n  hint: --out page.html"),
        (("toy", "--out", "no/page.html"), "no/page.html: cannot be written"),
    ],
)
def test_what_cannot_be_reported_is_refused(args, message):
    assert message in refused(*args)
