// For own.py: it does not compile.
extern "C" __global__ void no_code_fprop(const float *x, float *y) {
    y[0] = x[0] + nothing;
}
