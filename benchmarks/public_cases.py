"""The kernels of `public_kernels`: where each is, how it is launched, and what NumPy says of its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

F, INT, UINT = np.float32, np.int32, np.uint32
COMMITS = {
    "karpathy+llm.c": "f1e2ace651495b74ae22d45d1723443fd00ecd3a",
    "erikwijmans+Pointnet2_PyTorch": "b5ceb6d9ca0467ea34beb81023f96ee82228f626",
    "siboehm+SGEMM_CUDA": "60cba6f9b20a198116c76f18de8047f44df8c8b8",
    "tspeterkim+flash-attention-minimal": "00f8f46712d493665c900c32fa3a261c8ef3e20c",
    "godweiyang+NN-CUDA-Example": "1bc46151d89f5b1455f15dad44b5f5d487af639a",
    "NVIDIA+cuda-samples": "c94ff366aed18c797b8a85dfaac7817b0228b420",
}
Made = tuple[tuple[Any, ...], list[tuple[Any, Any]]]  # arguments; results and what they should be
CASES: list[Case]


@dataclass(frozen=True)
class Case:
    """A kernel: its place, its launch, and a function that makes arguments and what is expected."""

    repository: str
    file: str
    name: str
    grid: Any
    block: Any
    make: Callable[[], Made]
    shared: int = 0
    include: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    rtol: float = 1e-4
    atol: float = 1e-5


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(F)


def zeros(*shape: int, kind: Any = F) -> np.ndarray:
    return np.zeros(shape, kind)


def bf16(x: Any) -> np.ndarray:
    """Numbers as bfloat16, in 16 bits each."""
    bits = np.ascontiguousarray(x, F).view(UINT)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


class Wide:
    """A view of bfloat16 results as floats, made when it is read."""

    def __init__(self, bits: np.ndarray) -> None:
        self.bits = bits

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return (self.bits.astype(UINT) << 16).view(F).astype(dtype or F)


def wide(bits: np.ndarray) -> np.ndarray:
    return np.asarray(Wide(bits))


# -- llm.c ------------------------------------------------------------------------------------------------

LLM, DEV = "karpathy+llm.c", "dev/cuda/"


def softmax(n: int = 4, c: int = 96) -> Made:
    x, y = normal(n, c), zeros(n, c)
    e = np.exp(x.astype(float) - x.max(1, keepdims=True))
    return (y, x, n, c), [(y, e / e.sum(1, keepdims=True))]


def layernorm(n: int = 4, c: int = 96) -> Made:
    x, w, b = normal(n, c), normal(c, seed=1), normal(c, seed=2)
    y, mean, rstd = zeros(n, c), zeros(n), zeros(n)
    m, v = x.mean(1, dtype=float), x.astype(float).var(1)
    r = 1 / np.sqrt(v + 1e-5)
    z = (x - m[:, None]) * r[:, None] * w + b
    return (y, mean, rstd, x, w, b, n, c), [(y, z), (mean, m), (rstd, r)]


def gelu(x: Any) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gelu_forward(n: int = 512) -> Made:
    x, y = bf16(normal(n)), zeros(n, kind=np.uint16)
    return (y, x, n), [(Wide(y), gelu(wide(x).astype(float)))]


def gelu_backward(n: int = 512) -> Made:
    x, dy, dx = bf16(normal(n)), bf16(normal(n, seed=1)), zeros(n, kind=np.uint16)
    z, h = wide(x).astype(float), 1e-5
    slope = (gelu(z + h) - gelu(z - h)) / (2 * h)
    return (dx, x, dy, n), [(Wide(dx), wide(dy) * slope)]


def residual(n: int = 512) -> Made:
    a, b, y = bf16(normal(n)), bf16(normal(n, seed=1)), zeros(n, kind=np.uint16)
    return (y, a, b, n), [(Wide(y), wide(a) + wide(b))]


def crossentropy(b: int = 2, t: int = 3, v: int = 7) -> Made:
    p = np.abs(normal(b * t, v)) + F(0.1)
    of = np.arange(b * t, dtype=INT) % v
    losses = zeros(b * t)
    return (losses, p, of, b, t, v), [(losses, -np.log(p[np.arange(b * t), of]))]


def crossentropy_backward(b: int = 2, t: int = 3, v: int = 8) -> Made:
    p, dl = np.abs(normal(b * t, v)), normal(b * t, seed=1)
    of, d = np.arange(b * t, dtype=INT) % v, zeros(b * t, v)
    return (d, dl, p, of, b, t, v), [(d, (p - np.eye(v)[of]) * dl[:, None])]


def encoder(b: int = 2, t: int = 4, c: int = 64) -> Made:
    ids, wte, wpe = (np.arange(b * t, dtype=INT) * 3 % 10), bf16(normal(10, c)), bf16(normal(t, c, seed=1))
    y = zeros(b * t, c, kind=np.uint16)
    return (y, ids, wte, wpe, b, t, c), [(Wide(y), wide(wte)[ids] + np.tile(wide(wpe), (b, 1)))]


def permute() -> Made:
    x, y = normal(2, 3, 4, 5), zeros(120)
    return (x, y, 2, 3, 4, 5), [(y, x.transpose(3, 0, 2, 1).ravel())]


def adamw(n: int = 200) -> Made:
    p, g, m, v = normal(n), normal(n, seed=1), normal(n, seed=2), np.abs(normal(n, seed=3))
    m1, v1 = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g.astype(float) ** 2
    q = p - 1e-3 * (m1 / 0.5 / (np.sqrt(v1 / 0.3) + 1e-8) + 0.01 * p)
    return (p, g, m, v, n, 1e-3, 0.9, 0.999, 0.5, 0.3, 1e-8, 0.01), [(p, q), (m, m1), (v, v1)]


def norm(n: int = 1000) -> Made:
    x, y = normal(n), zeros(8)
    return (y, x, n), [(y[:1], [np.sum(x.astype(float) ** 2)])]


def matmul(bt: int = 128, c: int = 64, oc: int = 128) -> Made:
    x, w, b, y = normal(bt, c), normal(oc, c, seed=1), normal(oc, seed=2), zeros(bt, oc)
    return (y, x, w, b, bt, c, oc), [(y, x @ w.T + b)]


def matmul4() -> Made:
    (y, x, w, b, _, c, oc), expected = matmul()
    return (y, x, w, b, c, oc), expected


def bias_backward(b: int = 2, t: int = 16, oc: int = 64) -> Made:
    dy, db = bf16(normal(b * t, oc)), zeros(oc, kind=np.uint16)
    return (db, dy, b, t, oc), [(Wide(db), wide(dy).sum(0, dtype=float))]


def heads(b: int = 2, n: int = 4, h: int = 3, d: int = 8) -> Made:
    x, q, k, v = normal(b, n, 3, h, d), zeros(b, h, n, d), zeros(b, h, n, d), zeros(b, h, n, d)
    parts = x.transpose(2, 0, 3, 1, 4)
    return (q, k, v, x, b, n, h, d), [(q, parts[0]), (k, parts[1]), (v, parts[2])]


def query_key(b: int = 1, t: int = 6, h: int = 2, d: int = 8) -> Made:
    x, y = normal(b, t, 3, h, d), zeros(b, h, t, t)
    s = np.einsum("bthd,bshd->bhts", x[:, :, 0], x[:, :, 1]) / np.sqrt(d)
    s = np.where(np.tril(np.ones((t, t))) > 0, s, -np.inf)
    return (y, x, b, t, h * d, h), [(y, s)]


def llm(file: str, name: str, grid: Any, block: Any, make: Callable[[], Made], **more: Any) -> Case:
    return Case(LLM, DEV + file, name, grid, block, make, **more)


LOW = {"rtol": 2e-2, "atol": 2e-2}  # bfloat16 has 8 bits
CASES = [
    llm("softmax_forward.cu", "softmax_forward_kernel1", 1, 32, softmax),
    llm("softmax_forward.cu", "softmax_forward_kernel2", 4, 64, softmax, shared=256),
    llm("softmax_forward.cu", "softmax_forward_kernel3", 4, 32, softmax, shared=128),
    llm("softmax_forward.cu", "softmax_forward_kernel4", 4, 64, softmax, shared=8),
    llm("softmax_forward.cu", "softmax_forward_kernel7", 4, 64, softmax, shared=16),
    llm("softmax_forward.cu", "softmax_forward_online_kernel1", 1, 32, softmax),
    llm("softmax_forward.cu", "softmax_forward_online_kernel2", 4, 32, softmax),
    llm("softmax_forward.cu", "softmax_forward_online_kernel8", 2, 64, softmax),
    llm("layernorm_forward.cu", "layernorm_forward_kernel1", 1, 32, layernorm),
    llm("layernorm_forward.cu", "layernorm_forward_kernel3", 2, 64, layernorm),
    llm("layernorm_forward.cu", "layernorm_forward_kernel4", 2, 64, layernorm),
    llm("layernorm_forward.cu", "layernorm_forward_kernel5", 4, 64, layernorm),
    llm("gelu_forward.cu", "gelu_forward_kernel1", 4, 128, gelu_forward, **LOW),
    llm("gelu_forward.cu", "gelu_forward_kernel2", 1, 64, gelu_forward, **LOW),
    llm("gelu_backward.cu", "gelu_backward1", 4, 128, gelu_backward, **LOW),
    llm("gelu_backward.cu", "gelu_backward2", 1, 64, gelu_backward, **LOW),
    llm("residual_forward.cu", "residual_forward_kernel1", 4, 128, residual, **LOW),
    llm("residual_forward.cu", "residual_forward_kernel2", 1, 64, residual, **LOW),
    llm("crossentropy_forward.cu", "crossentropy_forward_kernel1", 1, 32, crossentropy),
    llm(
        "crossentropy_softmax_backward.cu",
        "crossentropy_softmax_backward_kernel1",
        2,
        32,
        crossentropy_backward,
    ),
    llm("encoder_forward.cu", "encoder_forward_kernel1", 1, 32, encoder, **LOW),
    llm("encoder_forward.cu", "encoder_forward_kernel2", 4, 128, encoder, **LOW),
    llm("encoder_forward.cu", "encoder_forward_kernel3", 1, 64, encoder, **LOW),
    llm("adamw.cu", "adamw_kernel1", 2, 128, adamw),
    llm("adamw.cu", "adamw_kernel2", 2, 128, adamw),
    llm("global_norm.cu", "norm_kernel1<float>", 3, 64, norm),
    llm("global_norm.cu", "norm_kernel2<float>", 2, 64, norm),
    llm("matmul_forward.cu", "matmul_forward_kernel1", (8, 8), (16, 16), matmul),
    llm("matmul_forward.cu", "matmul_forward_kernel4", (1, 1), (16, 16), matmul4),
    llm("matmul_backward_bias.cu", "matmul_backward_bias_kernel1", 64, 32, bias_backward, shared=128, **LOW),
    llm("matmul_backward_bias.cu", "matmul_backward_bias_kernel2", 32, 64, bias_backward, **LOW),
    llm("matmul_backward_bias.cu", "matmul_backward_bias_kernel4", 2, 128, bias_backward, shared=512, **LOW),
    llm("attention_forward.cu", "attention_query_key_kernel1", 1, 128, query_key),
    llm("attention_forward.cu", "permute_kernel", 2, 128, heads),
]

# -- Pointnet2 --------------------------------------------------------------------------------------------

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


CASES += [
    points("ball_query_gpu.cu", "query_ball_point_kernel", 1, 8, ball_query),
    points("group_points_gpu.cu", "group_points_kernel", 1, (4, 2), group),
    points("group_points_gpu.cu", "group_points_grad_kernel", 1, (4, 2), group_grad),
    points("interpolate_gpu.cu", "three_nn_kernel", 1, 16, three_nn),
    points("interpolate_gpu.cu", "three_interpolate_kernel", 1, (16, 2), interpolate),
    points("sampling_gpu.cu", "gather_points_kernel", (1, 3), 8, gather),
    points("sampling_gpu.cu", "furthest_point_sampling_kernel<64>", 1, 64, furthest),
]

# -- SGEMM_CUDA -------------------------------------------------------------------------------------------


def sgemm(m: int = 128, n: int = 128, k: int = 64) -> Made:
    a, b, c = normal(m, k), normal(k, n, seed=1), normal(m, n, seed=2)
    return (m, n, k, 0.5, a, b, 2.0, c), [(c, 0.5 * (a.astype(float) @ b) + 2.0 * c)]


def gemm(file: str, name: str, grid: Any, block: Any) -> Case:
    return Case("siboehm+SGEMM_CUDA", f"src/kernels/{file}", name, grid, block, sgemm, include=("src",),
                rtol=1e-3, atol=1e-3)  # fmt: skip


CASES += [
    gemm("1_naive.cuh", "sgemm_naive", (4, 4), (32, 32)),
    gemm("2_kernel_global_mem_coalesce.cuh", "sgemm_global_mem_coalesce<32>", (4, 4), 1024),
    gemm("3_kernel_shared_mem_blocking.cuh", "sgemm_shared_mem_block<32>", (4, 4), 1024),
    gemm("4_kernel_1D_blocktiling.cuh", "sgemm1DBlocktiling<64, 64, 8, 8>", (2, 2), 512),
    gemm("5_kernel_2D_blocktiling.cuh", "sgemm2DBlocktiling<64, 64, 8, 8, 8>", (2, 2), 64),
    gemm("6_kernel_vectorize.cuh", "sgemmVectorize<64, 64, 8, 8, 8>", (2, 2), 64),
    gemm("6_kernel_vectorize.cuh", "sgemmVectorize<128, 128, 8, 8, 8>", (1, 1), 256),
    gemm("8_kernel_bank_extra_col.cuh", "sgemmResolveBankExtraCol<128, 128, 8, 8, 8>", (1, 1), 256),
]

# -- others -----------------------------------------------------------------------------------------------


def flash(n: int = 64, d: int = 16, tile: int = 32) -> Made:
    q, k, v, y = (normal(1, 2, n, d, seed=i) for i in range(4))
    total, most = zeros(1, 2, n), np.full((1, 2, n), -np.inf, F)
    s = np.einsum("bhnd,bhmd->bhnm", q, k).astype(float) / np.sqrt(d)
    e = np.exp(s - s.max(3, keepdims=True))
    y[:] = 0
    wanted = (e / e.sum(3, keepdims=True)) @ v
    args = (q, k, v, n, d, n // tile, n // tile, tile, tile, float(F(1 / np.sqrt(d))), total, most, y)
    return args, [(y, wanted)]


def add2(n: int = 300) -> Made:
    a, b, c = normal(n), normal(n, seed=1), zeros(n)
    return (c, a, b, n), [(c, a + b)]


def vector_add(n: int = 300) -> Made:
    (c, a, b, n), expected = add2(n)
    return (a, b, c, n), expected


def product(n: int = 64) -> Made:
    a, b, c = normal(n, n), normal(n, n, seed=1), zeros(n, n)
    return (c, a, b, n, n), [(c, a.astype(float) @ b)]


def transposed(n: int = 64) -> Made:
    x, y = normal(n, n), zeros(n, n)
    return (y, x, n, n), [(y, x.T)]


def reduced(n: int = 512, blocks: int = 8) -> Made:
    x, y = normal(n), zeros(blocks)
    return (x, y, n), [(y, x.reshape(blocks, -1).sum(1, dtype=float))]


def dot(vectors: int = 3, n: int = 512) -> Made:
    a, b, c = normal(vectors, n), normal(vectors, n, seed=1), zeros(vectors)
    return (c, a, b, vectors, n), [(c, (a.astype(float) * b).sum(1))]


def half_dot(n: int = 512) -> Made:
    a, b = (np.random.default_rng(i).integers(-2, 3, (n, 2)).astype(np.float16) for i in (0, 1))
    y, each = zeros(2), (a.astype(float) * b).sum(1)
    taken = [[t + 128 + block + 256 * k for t in range(128) for k in (0, 1)] for block in (0, 1)]
    return (a, b, y, n), [
        (y, [sum(each[i] for i in rows if i < n) for rows in taken])
    ]  # as the sample counts


def votes(n: int = 64) -> Made:
    x, y = (np.arange(n, dtype=UINT) % 40 > 31).astype(UINT), zeros(n, kind=UINT)
    return (x, y, n), [(y, np.repeat(x.reshape(-1, 32).any(1), 32))]


def fenced(n: int = 512) -> Made:
    x, y = normal(n), zeros(4)
    return (x, y, n), [(y[:1], [x.sum(dtype=float)])]


def sample(file: str, name: str, grid: Any, block: Any, make: Callable[[], Made], **more: Any) -> Case:
    return Case(
        "NVIDIA+cuda-samples", f"Samples/{file}", name, grid, block, make, include=("Common",), **more
    )


INTRO, CONCEPTS = "0_Introduction/", "2_Concepts_and_Techniques/"
REDUCE, TRANSPOSE = f"{CONCEPTS}reduction/reduction_kernel.cu", "6_Performance/transpose/transpose.cu"
CASES += [
    Case("tspeterkim+flash-attention-minimal", "flash.cu", "forward_kernel", (1, 2), 32, flash, shared=10240),
    Case("godweiyang+NN-CUDA-Example", "kernel/add2_kernel.cu", "add2_kernel", 2, 128, add2),
    sample(f"{INTRO}vectorAdd/vectorAdd.cu", "vectorAdd", 3, 128, vector_add),
    sample(f"{INTRO}matrixMul/matrixMul.cu", "MatrixMulCUDA<16>", (4, 4), (16, 16), product),
    sample(f"{INTRO}fp16ScalarProduct/fp16ScalarProduct.cu", "scalarProductKernel_native", 2, 128, half_dot),
    sample(f"{INTRO}simpleVoteIntrinsics/simpleVoteIntrinsics.cu", "VoteAnyKernel1", 1, 64, votes),
    sample(TRANSPOSE, "transposeCoalesced", (2, 2), (32, 16), transposed),
    sample(TRANSPOSE, "transposeNoBankConflicts", (2, 2), (32, 16), transposed),
    sample(TRANSPOSE, "transposeDiagonal", (2, 2), (32, 16), transposed),
    sample(REDUCE, "reduce2<float>", 8, 64, reduced, shared=256),
    sample(REDUCE, "reduce6<float, 64, true>", 4, 64, lambda: reduced(blocks=4), shared=256),
    sample(f"{CONCEPTS}scalarProd/scalarProd.cu", "scalarProdGPU", 2, 64, dot),
    sample(f"{CONCEPTS}threadFenceReduction/threadFenceReduction.cu", "reduceSinglePass<128, true>", 2, 128,
           fenced, shared=512),
]  # fmt: skip
