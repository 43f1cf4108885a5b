"""Batches, and the parts of them that processes would have."""

import numpy as np

PARTS = {  # (first, N), by the size of the whole batch; a GPU's threads take 4 samples at once if N allows it
    12: [(0, 4), (4, 3), (7, 5), (3, 4), (1, 8), (11, 1)],
    13: [(0, 4), (4, 4), (8, 5), (2, 8), (6, 1)],
}
STEPS = 0, 1, 2**32 - 1, 2**40 + 7


def assert_parts_draw_as_the_whole(run, layer, x, dy, step):
    """y, dx and the state of parts are those of the whole batch, bit for bit."""
    N = x.shape[-1]
    whole = run(layer, x, dy, step=step)
    for first, n in PARTS[N]:
        here = slice(first, first + n)
        got = run(layer, x[..., here], dy[..., here], step=step, part=(first, N))
        pairs = [(got.y, whole.y), (got.dx, whole.dx), *((got.state[k], whole.state[k]) for k in got.state)]
        for part, all_of_it in pairs:
            np.testing.assert_array_equal(part, all_of_it[..., here], str((first, n)))
