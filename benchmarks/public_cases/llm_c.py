"""llm.c: transformer layers, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.public_cases.case import INT, Case, F, Made, Wide, bf16, normal, wide, zeros

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
