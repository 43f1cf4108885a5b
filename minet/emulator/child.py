"""The process in which a kernel runs under the sanitizers: ``python -m minet.emulator.child FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.emulator.arguments import ALIGNED
from minet.emulator.raw_kernel import RawKernel


def main(folder: str) -> None:
    """Run what `sanitized.run` has asked for, and write what came of it."""
    asked: dict[str, Any] = json.loads(Path(folder, "asked.json").read_text())
    memory, at, error, after = Path(folder, "memory").read_bytes(), 0, None, []
    try:
        source = Path(asked["source"]) if asked["is_file"] else asked["source"]
        kernel = RawKernel(source, asked["name"], asked["options"])
        kernel = kernel.check(asked["order"], allow=asked["allow"], most_branches=asked["most_branches"])
        kernel.max_dynamic_shared_size_bytes = asked["dynamic"]
        variables = [kernel.variables[name] for name in asked["variables"]]
        for one in variables:
            one.put(memory[at : at + one.length])
            at += one.length
        blocks = []
        for size, offset in asked["blocks"]:
            room = np.zeros(ALIGNED + size, np.uint8)  # an array lies in it as in the caller's own
            blocks.append(room[offset : offset + size])
            blocks[-1][:] = np.frombuffer(memory, np.uint8, size, at)
            at += size
        args = [bytes.fromhex(a) if isinstance(a, str) else _given(a, blocks) for a in asked["args"]]
        kernel(asked["grid"], asked["block"], args, shared_mem=asked["shared"])
        after = [*(one.content() for one in variables), *(one.tobytes() for one in blocks)]
    except MinetError as refused:
        error = refused.message, refused.hint
    sys.stdout.flush()
    Path(folder, "memory").write_bytes(b"".join(after))
    Path(folder, "answer.json").write_text(json.dumps(error))


def _given(asked: Any, blocks: list[np.ndarray]) -> Any:
    if asked is None:
        return None
    if isinstance(asked, list):
        return [_given(one, blocks) for one in asked]
    dtype, shape, at = np.dtype(asked["dtype"]), tuple(asked["shape"]), asked["at"]
    size = dtype.itemsize * int(np.prod(shape))
    array = blocks[asked["block"]][at : at + size].view(dtype).reshape(shape, order=asked["order"])
    array.flags.writeable = asked["writeable"]
    return array


if __name__ == "__main__":
    main(sys.argv[1])
