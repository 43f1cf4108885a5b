"""The notebooks in examples/ run from start to end, in a kernel of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel: pip install -e '.[dev]'")

EXAMPLES = Path(__file__).parents[1] / "examples"
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def executed(path, folder):
    """Execute a notebook in a process of its own; return its outputs in order."""
    out = folder / "executed.ipynb"
    run = [sys.executable, "-c", EXECUTE, path, out]
    done = subprocess.run(run, cwd=EXAMPLES, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return outputs(out)


def outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells for output in cell.get("outputs", [])]


def forms(output):
    return output.output_type, set(output.get("data", ()))


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_gives_outputs_in_the_forms_that_it_shows(path, tmp_path):
    assert [forms(new) for new in executed(path, tmp_path)] == [forms(kept) for kept in outputs(path)]


def test_a_fault_in_a_cell_is_placed_by_the_number_of_the_cell(tmp_path):
    cells = [
        "import minet\nfrom minet.testing import check_layer",
        "class Twice(minet.Layer):\n"
        "    def out_shape(self, in_shape):\n        return in_shape\n"
        "    def fprop_cpu(self, x, y, beta, train):\n        minet.update(y, 2 * x, beta)\n"
        "    def bprop_cpu(self, x, dy, dx, beta):\n        minet.update(dx, 3 * dy, beta)",
        "print(check_layer(Twice, (2, 3, 4)))",
    ]
    v4 = nbformat.v4
    nbformat.write(
        v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells]), tmp_path / "faulty.ipynb"
    )
    (output,) = executed(tmp_path / "faulty.ipynb", tmp_path)
    assert "at cell In[2]:6, bprop_cpu" in output.text
