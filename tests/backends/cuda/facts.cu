// For own.py: the kernels record their arguments, taken in another order.
extern "C" __global__ void facts_fprop(float beta, unsigned key1, unsigned key0, long long step, bool train,
                                       float *facts, unsigned *words, float *y, const float *x, const float *a,
                                       int N, int Q, int P, int K, int W, int H, int C) {
    if (blockIdx.x + blockIdx.y + threadIdx.x) return;
    float all[] = {(float)C, (float)H, (float)W, (float)K, (float)P, (float)Q, (float)N, beta, (float)train,
                   (float)step, FACTOR, a[0], x[C * H * W * N - 1]};
    for (int i = 0; i < 13; i++) facts[i] = all[i];
    words[0] = key0, words[1] = key1;
    y[K * P * Q * N - 1] = 0;
}

extern "C" __global__ void facts_bprop(const float *dy, float *dx, float *da, int C, int H, int W, int N,
                                       int P, int Q) {
    for (int i = threadIdx.x; i < C * H * W * N && !blockIdx.x && !blockIdx.y; i += blockDim.x)
        if (dx) dx[i] = dy[0];
    if (blockIdx.x + blockIdx.y + threadIdx.x == 0) da[0] += P * Q, da[1] += P * Q;
}
