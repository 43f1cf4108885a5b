"""Every program and command in the pages runs, and prints what the page shows."""

import shutil
from pathlib import Path

import pages
import pytest
from slow import slow

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
OF_TORCH = ("torch.md", "torch-kit.md")
LONG = ("compare.md",)  # trains many runs; tests/cli/test_compare.py types the same commands
WITH_PROGRAMS = [page for page in PAGES if any(block.runs for block in pages.blocks(page.read_text()))]


@pytest.mark.parametrize(
    "page",
    [slow(page) if page.name in LONG else page for page in WITH_PROGRAMS],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_a_page_runs(page, tmp_path):
    if page.name in OF_TORCH:
        pytest.importorskip("torch", reason="PyTorch is not installed: make .venv/bench")
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    assert pages.run(page, tmp_path) > 0


def test_blocks_are_found_with_their_lines():
    text = 'text\n```python title="a.py"\nx = 1\n```\n<!-- not run: why -->\n```console\n$ ls\n```\n'
    first, second = pages.blocks(text)
    assert (first.language, first.title, first.code, first.line) == ("python", "a.py", "x = 1\n", 3)
    assert second.shown and not first.shown


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("```python\nassert 1 == 2\n```", AssertionError),
        ("```console\n$ echo 1\n2\n```", AssertionError),
        ("```console\n$ false\n```", AssertionError),
        ('```python title="a.py"\nb = 1\n```\n```python\nfrom a import c\n```', ImportError),
    ],
)
def test_a_page_that_does_not_do_what_it_shows_fails(page, fault, tmp_path):
    (tmp_path / "page.md").write_text(page)
    with pytest.raises(fault):
        pages.run(tmp_path / "page.md", tmp_path)


def test_dots_stand_for_what_differs(tmp_path):
    (tmp_path / "page.md").write_text("```console\n$ echo took 3 s; echo done\ntook ... s\ndone\n```\n")
    assert pages.run(tmp_path / "page.md", tmp_path) == 1


def test_a_block_is_added_at_the_end_of_a_file(tmp_path):
    page = '```python title="a.py"\na = 1\n```\n```python title="a.py, at the end"\nb = 2\n```\n'
    (tmp_path / "page.md").write_text(page)
    pages.run(tmp_path / "page.md", tmp_path)
    assert (tmp_path / "a.py").read_text() == "a = 1\nb = 2\n"


def test_numbers_with_a_point_or_a_comma_stand_for_any_number(tmp_path):
    shown = "$ echo 'f(a=0.3) 1,234 2e-05 6.1e-07 x'\nf(a=12.75) 9,1 2e-05 1.5 x"
    (tmp_path / "page.md").write_text(f"```console\n{shown}\n```\n")
    assert pages.run(tmp_path / "page.md", tmp_path) == 1
    (tmp_path / "page.md").write_text("```console\n$ echo 'f(a=0.3) 7'\nf(a=0.3) 8\n```\n")
    with pytest.raises(AssertionError):
        pages.run(tmp_path / "page.md", tmp_path)


def test_a_page_has_its_own_file_of_a_name_that_another_page_has(tmp_path):
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        program = f"from of_a_page import a\nassert a == {number}"
        text = f'```python title="of_a_page.py"\na = {number}\n```\n```python\n{program}\n```\n'
        (folder / "page.md").write_text(text)
        assert pages.run(folder / "page.md", folder) == 1
