"""The table of a comparison: means and spreads by hand, what tells rows apart, CSV, picture and page."""

import csv
import io
import math
import statistics
from pathlib import Path
from xml.etree import ElementTree

import pytest

from minet import MinetError
from minet.compare import page, plot, table
from minet.compare.table import Row, of_runs, spread_text
from minet.runs.listing import Run


def run(
    accuracies, seed=0, model="toy", seconds=2.0, state="finished", folder=None, metric="accuracy", **settings
):
    """A run whose epochs had these accuracies."""
    records = [
        {"epoch": i, "step": 3 * i, "loss": 1 / i, "test_loss": 2 / i, metric: value, "rate": 0.1,
         "seconds": seconds, "images_per_second": 9.0}
        for i, value in enumerate(accuracies, 1)
    ]  # fmt: skip
    facts = {"model": model, "settings": settings, "seed": seed, "parameters": 1234, "file": f"{model}.py"}
    facts |= {
        "defaults": {"width": "8", "pool": "'max'"},
        "machine": {"processor": "a <b>"},
        "text": "x = 1 < 2",
    }
    name = folder or f"{model},{settings},{seed}"
    return Run(Path(name), state, "", facts, records, len(records), len(records))


@pytest.fixture
def rows():
    return [
        Row({"width": "4"}, [run([0.5, 0.9], 0, width=4), run([0.6, 0.92], 1, width=4)]),
        Row({"width": "<8>"}, [run([0.7, 0.97], 0)], [("width=<8> seed=1", "out of <memory>\n  hint: less")]),
    ]


def test_means_and_spreads_by_hand(rows):
    assert rows[0].mean("accuracy") == pytest.approx(0.91)
    assert rows[0].spread("accuracy") == pytest.approx(statistics.stdev([0.9, 0.92]))
    assert math.isnan(rows[1].spread("accuracy")) and rows[0].seconds == 4.0
    assert spread_text("accuracy", rows[0]) == "91.00 ± 1.41 %"
    assert spread_text("accuracy", rows[1]) == "97.00 %"
    assert spread_text("loss", rows[0]) == "0.5000 ± 0.0000"


def test_the_table(rows):
    assert table.text(rows).splitlines() == [
        "width    runs   test accuracy   time  parameters",
        "-----  ------  --------------  -----  ----------",
        "4           2  91.00 ± 1.41 %  4.0 s       1,234",
        "<8>    1 of 2         97.00 %  4.0 s       1,234",
    ]


def test_a_row_of_which_every_run_failed():
    lines = table.text([Row({"width": "4"}, [], [("seed=0", "no")])]).splitlines()
    assert lines[2].split() == ["4", "0", "of", "1", "-", "-", "-"]


def test_the_csv_files_have_all_digits(rows):
    first, second = csv.DictReader(io.StringIO(table.table_csv(rows).decode()))
    assert first["width"] == "4" and float(first["accuracy_mean"]) == rows[0].mean("accuracy")
    assert float(first["accuracy_spread"]) == rows[0].spread("accuracy")
    assert (second["runs"], second["failed"], second["accuracy_spread"]) == ("1", "1", "")
    each = list(csv.DictReader(io.StringIO(table.runs_csv(rows).decode())))
    assert [one["accuracy"] for one in each] == ["0.9", "0.92", "0.97", ""]
    assert [one["seed"] for one in each] == ["0", "1", "0", "1"]
    assert each[3]["error"] == "out of <memory> hint: less" and each[0]["seconds"] == "4.0"


def test_runs_that_differ_in_their_seeds_alone_are_one_row():
    one, two, other = run([0.9], 0), run([0.8], 1), run([0.7], 0, width=4, pool="avg")
    rows = of_runs([one, other, two])
    assert [row.labels for row in rows] == [{"width": "8", "pool": "max"}, {"width": "4", "pool": "avg"}]
    assert rows[0].runs == [one, two]


def test_a_setting_that_was_given_as_it_is_by_default_is_the_same():
    assert len(of_runs([run([0.9], 0), run([0.8], 1, width=8)])) == 1


def test_models_and_epochs_tell_runs_apart_too():
    rows = of_runs([run([0.9]), run([0.8, 0.9], folder="b"), run([0.9], model="other")])
    assert [list(row.labels) for row in rows] == [["model", "epochs"]] * 3


def test_versions_of_a_layer_beside_the_model_tell_runs_apart():
    one, two, three = (run([0.9], seed) for seed in range(3))
    for each, text in ((one, "x = 1"), (two, "x = 2"), (three, "x=1")):
        each.facts["beside"] = {"mine.py": text}
    assert [row.runs for row in of_runs([one, two, three])] == [[one, three], [two]]


@pytest.mark.parametrize("state", ["interrupted", "running", "broken"])
def test_runs_that_are_not_finished_are_refused(state):
    with pytest.raises(MinetError, match=f"a: is not finished: it is {state}, 1 of 1 epochs are done"):
        of_runs([run([0.9]), run([0.9], state=state, folder="a")])


def test_a_run_that_is_given_twice_is_refused():
    with pytest.raises(MinetError, match="a: is given twice"):
        of_runs([run([0.9], folder="a"), run([0.9], folder="../" + Path.cwd().name + "/a")])


def test_runs_of_one_seed_are_no_spread_over_seeds():
    one, two, again = run([0.9], 0, folder="a/1"), run([0.8], 1, folder="a/2"), run([0.9], 0, folder="b/1")
    rows = of_runs([one, two, again])
    assert [(row.labels, row.runs) for row in rows] == [
        ({"from folder": "a"}, [one, two]),
        ({"from folder": "b"}, [again]),
    ]
    again = run([0.9], 0, folder="a/3")
    other = run([0.7], 0, width=4, folder="a/4")
    rows = of_runs([one, two, again, other])
    assert [row.labels for row in rows] == [
        *({"width": "8", "from folder": f"a/{i}"} for i in (1, 2, 3)),
        {"width": "4", "from folder": ""},
    ]


def test_runs_whose_seeds_are_not_known_are_one_row():
    one, two = run([0.9], folder="a"), run([0.8], folder="b")
    del one.facts["seed"], two.facts["seed"]
    assert len(of_runs([one, two])) == 1


def test_means_by_epoch_are_of_the_epochs_that_all_have(rows):
    rows[0].runs.append(run([0.7], 2))
    assert plot.means(rows[0], "accuracy") == [(1, pytest.approx(0.6), pytest.approx(0.1))]
    assert plot.means(Row({}), "accuracy") == []


def test_names_in_the_picture_leave_out_what_makes_no_difference():
    pools = [Row({"pool": "max", "kernels": "1/2"}), Row({"pool": "gaussian", "kernels": "1"})]
    assert plot.names_of(pools) == ["pool=max", "pool=gaussian kernels=1"]
    assert plot.names_of([Row({"file": "a/b"}), Row({"file": "a/c"})]) == ["file=a/b", "file=a/c"]
    assert (
        plot.names_of([Row({"file": "a/b", "n": "1"}), Row({"file": "a/c", "n": "1"})])[0] == "file=a/b n=1"
    )
    assert plot.names_of([Row({})]) == ["all"]
    assert plot.names_of([Row({"name": "n" * 99})]) == [f"name={'n' * 34}…"]


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
@pytest.mark.parametrize("values", [[0.5, 0.9], [0.9], [math.nan], [0.0, 0.0]])
def test_pictures_of_any_results(tmp_path, metric, values):
    rows = [Row({"a$": f"{i}$"}, [run(values, seed, metric=metric) for seed in (0, 1)]) for i in range(17)]
    whole = plot.figure([*rows, Row({"a$": "none"})], "compare <b>$")
    whole.savefig(tmp_path / "a.png")
    assert len(whole.axes) == min(len(values), 2)


def test_the_page_is_well_formed_and_says_all(rows):
    html = page.html(rows, "compare <toy>", ["minet", "compare", "toy"][0], ["<note>"])
    root = ElementTree.fromstring(html)
    told = " ".join(" ".join(root.itertext()).split())
    for part in ("compare <toy>", "91.00 ± 1.41 %", "<8>", "out of <memory>", "<note>", "a <b>", "x = 1 < 2"):
        assert part in told
    assert "<script" not in html and "All 3 runs" in told


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
@pytest.mark.parametrize("values", [[0.5, 0.9], [0.9], [math.nan], [0.0, 0.0], [1e200, -1e200]])
def test_a_browser_shows_the_page(browser, tmp_path, metric, values):
    name = "a long name of a setting " * 4
    rows = [Row({name: f"{i}"}, [run(values, seed, metric=metric) for seed in (0, 1)]) for i in range(12)]
    (tmp_path / "compare.html").write_text(page.html(rows, "compare", "minet compare", []))
    for width in (1200, 360):
        opened = browser.open(tmp_path / "compare.html", width)
        assert (opened.fetched, opened.errors, opened.wide) == ([], [], [])


def test_runs_of_different_versions_of_a_model_file_are_two_rows():
    one, two = run([0.5]), run([0.6], 1)
    assert len(of_runs([one, two])) == 1
    two.facts["text"] = "x = 1 < 3"
    first, second = of_runs([one, two])
    assert first.labels.keys() == {"model file"} and first.labels != second.labels
    two.facts["text"] = "x = (1 < 2)  # laid out otherwise"
    assert len(of_runs([one, two])) == 1
    two.facts.update(model="other", text="y = 1")
    assert [list(row.labels) for row in of_runs([one, two])] == [["model"]] * 2


def test_a_setting_with_the_name_of_a_number_is_the_one_that_is_shown():
    rows = [Row({"rate": "0.5"}, [run([0.5])]), Row({"rate": "0.0"}, [run([0.6])])]
    each = csv.DictReader(io.StringIO(table.runs_csv(rows).decode()))
    assert [line["rate"] for line in each] == ["0.5", "0.0"]


def test_a_run_whose_log_lacks_its_last_epoch_is_refused():
    short = run([0.5, 0.6])
    short.records.pop()
    with pytest.raises(MinetError, match="its log lacks its last epoch"):
        of_runs([short, run([0.7, 0.8], 1)])
