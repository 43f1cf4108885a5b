"""docs/gaussian-pooling.md shows the examples' own code, files and pictures; tests/test_pages.py runs it."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from minet.core.files import run_file

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/gaussian_pooling"
PAGE = (ROOT / "docs/gaussian-pooling.md").read_text()
CODE = re.findall(r"^```cuda\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
PICTURES = re.findall(r"!\[.+\]\(gaussian-pooling/(\w+)\.svg\)", PAGE)


@pytest.mark.parametrize("code", CODE, ids=lambda code: code.split("\n")[0].strip()[:30])
def test_code_is_that_of_the_examples(code):
    assert any(stripped(code) in stripped(path.read_text()) for path in FOLDER.glob("*.cu*"))


def stripped(code):
    """Return code without what its place in a file indents."""
    return "".join(line.strip() + "\n" for line in code.splitlines())


def test_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", PAGE) if not link.startswith("https:")]
    assert len(links) > 10
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_pictures_are_drawn_by_their_script(tmp_path):
    pictures = run_file(FOLDER / "pictures.py")
    pictures.draw(tmp_path)
    drawn = {path.stem for path in tmp_path.iterdir()}
    assert drawn == set(PICTURES) == {path.stem for path in (ROOT / "docs/gaussian-pooling").iterdir()}
    for path in tmp_path.iterdir():
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_rungs_are_listed_in_order_with_their_files():
    ladder = run_file(FOLDER / "ladder.py")
    rows = re.findall(r"^\| (\d) \| [^|]+ \| \[(\w+)\.cu\]", PAGE, re.MULTILINE)
    assert rows == [(str(i), cls.stem()) for i, cls in enumerate(ladder.RUNGS, 1)]
    assert {path.stem for path in FOLDER.glob("*.cu")} == {stem for _, stem in rows}


def test_kernel_files_open_as_minet_s_own_do():
    for path in FOLDER.glob("*.cu"):
        head = path.read_text().partition("#include")[0]
        assert head.startswith("// Rung ")
        assert re.findall(r"^// (\w+):", head, re.MULTILINE) == ["Order", "Threads", "Bytes", "Source"], path
