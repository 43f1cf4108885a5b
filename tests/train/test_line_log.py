"""Logs by step: appended to, cut back when a run goes on."""

import pytest

from minet.core.files import FileError
from minet.train.line_log import LineLog


@pytest.fixture
def log(tmp_path):
    log = LineLog(tmp_path / "log.jsonl")
    for step in range(1, 6):
        log.add({"step": step, "x": 0.1 * step})
    return log


def test_it_keeps_the_lines_up_to_the_step_where_a_run_goes_on(log):
    before = log.path.read_text()
    log.begin(5)
    assert log.path.read_text() == before
    log.begin(3)
    assert [record["step"] for record in log.read()] == [1, 2, 3]
    log.add({"step": 4, "x": 0.4})
    log.add({"step": 5, "x": 0.5})
    assert log.path.read_text() == before
    log.begin(0)
    assert not log.path.read_text()


def test_an_incomplete_last_line_is_removed(log):
    text = log.path.read_text()
    log.path.write_text(text[:-5])
    log.begin(9)
    assert log.path.read_text() == "".join(text.splitlines(keepends=True)[:4])


@pytest.mark.parametrize("line", ["[3]", '{"x": 1}', '{"step": "2"}', "3"])
def test_it_is_read_up_to_the_first_line_that_is_damaged(line, log):
    log.path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    assert log.read() == [{"step": 1}]


def test_a_new_run_makes_no_file_before_its_first_line(tmp_path):
    log = LineLog(tmp_path / "new.jsonl")
    log.begin(0)
    assert not log.path.exists() and log.read() == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    with pytest.raises(FileError, match=r"none/log.jsonl: cannot be written: No such file"):
        LineLog(tmp_path / "none/log.jsonl").add({"step": 1})
