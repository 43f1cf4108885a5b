"""The pages that `minet view` and `minet report` write of a run."""

import re
from pathlib import Path
from xml.etree import ElementTree

from typer.testing import CliRunner

from minet.cli.main import app

TOY = Path(__file__).parent / "toy.py"


def minet(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def page(*args):
    """The root of the page that a command wrote, without namespaces, and what was said of it."""
    result = minet(*args)
    assert result.exit_code == 0, result.output
    path = Path(re.fullmatch(r"wrote (.*)\n", result.stdout)[1])
    root = ElementTree.parse(path).getroot()
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root, result.stderr
