"""How fast the emulator is: a kernel of 10,000 threads with 1,000 instructions each.

``python -m benchmarks.emulator_speed`` prints seconds of a processor with a look at each access and without,
the least of several runs in turns. A round of the kernel's loop is ten instructions: two loads and a store in
global memory, a load and a store in shared memory, a product and a sum, an index, a comparison and a branch.
"""

from __future__ import annotations

import time

import numpy as np

from minet.emulator import RawKernel

BLOCKS, THREADS, ROUNDS, REPEATS = 40, 256, 100, 5
SOURCE = """__global__ void mixed(const float *x, const float *w, float *y, int n) {
    __shared__ float last[256];
    int i = blockIdx.x * blockDim.x + threadIdx.x, t = threadIdx.x;
    last[t] = 0;
    for (int k = 0; k < 100; k++) {
        last[t] = last[t] * w[k] + x[i];
        y[i] = last[t];
        i = i + n < n * 100 ? i + n : i;
    }
}"""


def seconds(kernel: RawKernel) -> float:
    """Of the processor, for one launch."""
    n = BLOCKS * THREADS
    x, w = np.ones(n * ROUNDS, np.float32), np.full(ROUNDS, 0.5, np.float32)
    y = np.zeros(n * ROUNDS, np.float32)
    start = time.process_time()
    kernel(BLOCKS, THREADS, (x, w, y, n))
    return time.process_time() - start


def main() -> None:
    """Print both times and their ratio."""
    kernel = RawKernel(SOURCE, "mixed")
    ways = {"each access watched": kernel, "not watched": kernel.check(watch=False)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for one in ways.values():
        seconds(one)  # compiles it
    for _ in range(REPEATS):
        for name, one in ways.items():
            times[name].append(seconds(one))
    least = {name: min(found) for name, found in times.items()}
    for name, found in least.items():
        print(f"{name:20} {found:6.3f} s")
    watched, not_watched = least.values()
    print(f"{'ratio':20} {not_watched / watched:6.3f}")


if __name__ == "__main__":
    main()
