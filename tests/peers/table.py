"""Print the table of docs/peers.md: which inputs of PyTorch and ONNX minet expresses, and why not the rest.

`.venv/bin/python tests/peers/table.py`, with torch, expecttest and onnx installed.
"""

import from_onnx
import from_torch
from peers import row


def table() -> list[str]:
    found = [peer.inputs(op) for peer in (from_torch, from_onnx) for op in peer.OPS]
    met, on_emu = (sum(len(of(inputs)) for inputs in found) for of in (lambda i: i.cases, lambda i: i.on_emu))
    total = met + sum(inputs.unmet.total() for inputs in found)
    head = [row("operator", "inputs", "agree", "on emu too", "not expressed"), "|---|--:|--:|--:|---|"]
    return [*head, *(inputs.row for inputs in found), row("all", total, met, on_emu, total - met)]


if __name__ == "__main__":
    print("\n".join(table()))
