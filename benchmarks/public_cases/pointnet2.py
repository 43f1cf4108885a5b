"""Pointnet2_PyTorch: sampling, grouping and interpolation of points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.public_cases.case import INT, Case, F, Made, normal, zeros

POINTS, SRC = "erikwijmans+Pointnet2_PyTorch", "pointnet2_ops_lib/pointnet2_ops/_ext-src/"


def ball_query(n: int = 50, m: int = 9, k: int = 4) -> Made:
    xyz, new, idx = normal(1, n, 3), normal(1, m, 3, seed=1), zeros(1, m, k, kind=INT)
    near = ((new[0, :, None] - xyz[0]) ** 2).sum(2) < F(1.0)
    wanted = np.zeros((1, m, k), INT)
    for j in range(m):
        found = np.flatnonzero(near[j])[:k]
        if found.size:
            wanted[0, j] = found[0]
            wanted[0, j, : found.size] = found
    return (1, n, m, 1.0, k, new, xyz, idx), [(idx, wanted)]


def group(c: int = 3, n: int = 20, m: int = 5, k: int = 4) -> Made:
    x, y = normal(1, c, n), zeros(1, c, m, k)
    idx = (np.arange(m * k, dtype=INT) * 7 % n).reshape(1, m, k)
    return (1, c, n, m, k, x, idx, y), [(y, x[:, :, idx[0]])]


def group_grad(c: int = 3, n: int = 20, m: int = 5, k: int = 4) -> Made:
    dy, dx = normal(1, c, m, k), zeros(1, c, n)
    idx = (np.arange(m * k, dtype=INT) * 7 % 11).reshape(1, m, k)
    wanted = np.zeros((1, c, n))
    for at, i in np.ndenumerate(idx[0]):
        wanted[0, :, i] += dy[0, :, at[0], at[1]]
    return (1, c, n, m, k, dy, idx, dx), [(dx, wanted)]


def three_nn(n: int = 30, m: int = 12) -> Made:
    a, b, d, idx = normal(1, n, 3), normal(1, m, 3, seed=1), zeros(1, n, 3), zeros(1, n, 3, kind=INT)
    far = ((a[0, :, None].astype(float) - b[0]) ** 2).sum(2)
    order = np.argsort(far, 1)[:, :3]
    return (1, n, m, a, b, d, idx), [(d[0], np.take_along_axis(far, order, 1)), (idx[0], order)]


def interpolate(c: int = 3, m: int = 12, n: int = 20) -> Made:
    x, y, w = normal(1, c, m), zeros(1, c, n), np.abs(normal(1, n, 3, seed=1))
    idx = (np.arange(n * 3, dtype=INT) * 5 % m).reshape(1, n, 3)
    return (1, c, m, n, x, idx, w, y), [(y[0], (x[0][:, idx[0]] * w[0]).sum(2))]


def gather(c: int = 3, n: int = 20, m: int = 9) -> Made:
    x, y, idx = normal(1, c, n), zeros(1, c, m), (np.arange(m, dtype=INT) * 7 % n)[None]
    return (1, c, n, m, x, idx, y), [(y, x[:, :, idx[0]])]


def furthest(n: int = 100, m: int = 8) -> Made:
    x, near, idx = normal(1, n, 3), np.full((1, n), 1e10, F), zeros(1, m, kind=INT)
    picked, far = [0], np.full(n, 1e10)
    for _ in range(1, m):
        far = np.minimum(far, ((x[0].astype(float) - x[0, picked[-1]]) ** 2).sum(1))
        picked.append(int(far.argmax()))
    return (1, n, m, x, near, idx), [(idx[0], picked)]


def points(file: str, name: str, grid: Any, block: Any, make: Callable[[], Made]) -> Case:
    return Case(POINTS, f"{SRC}src/{file}", name, grid, block, make, include=(f"{SRC}include",))


CASES = [
    points("ball_query_gpu.cu", "query_ball_point_kernel", 1, 8, ball_query),
    points("group_points_gpu.cu", "group_points_kernel", 1, (4, 2), group),
    points("group_points_gpu.cu", "group_points_grad_kernel", 1, (4, 2), group_grad),
    points("interpolate_gpu.cu", "three_nn_kernel", 1, 16, three_nn),
    points("interpolate_gpu.cu", "three_interpolate_kernel", 1, (16, 2), interpolate),
    points("sampling_gpu.cu", "gather_points_kernel", (1, 3), 8, gather),
    points("sampling_gpu.cu", "furthest_point_sampling_kernel<64>", 1, 64, furthest),
]
