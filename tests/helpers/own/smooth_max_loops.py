import math

from numba import prange

from minet.loops import kernel, parallel_kernel


@kernel()
def largest(x, c, n):
    most = x[c, 0, n]
    for m in range(1, x.shape[1]):
        most = max(most, x[c, m, n])
    return most


@parallel_kernel()
def smooth_max_fprop(x, y, a, beta):
    C, M, N = x.shape
    for c in prange(C):
        for n in range(N):
            most, total = largest(x, c, n), 0.0
            for m in range(M):
                total += math.exp(a[c] * (x[c, m, n] - most))
            value = most + math.log(total / M) / a[c]
            y[c, n] = value if beta == 0 else beta * y[c, n] + value


@parallel_kernel()
def smooth_max_bprop(x, dy, dx, a, da, beta):
    C, M, N = x.shape
    for c in prange(C):
        slope = 0.0
        for n in range(N):
            most, total, away = largest(x, c, n), 0.0, 0.0
            for m in range(M):
                e = math.exp(a[c] * (x[c, m, n] - most))
                total += e
                away += e * (x[c, m, n] - most)
            slope += dy[c, n] * (away / total - math.log(total / M) / a[c])
            for m in range(M if len(dx) else 0):
                value = dy[c, n] * math.exp(a[c] * (x[c, m, n] - most)) / total
                dx[c, m, n] = value if beta == 0 else beta * dx[c, m, n] + value
        da[c] += slope / a[c]
