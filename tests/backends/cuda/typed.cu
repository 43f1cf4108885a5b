// A kernel that does nothing, for tests/backends/test_gpu.py.
extern "C" __global__ void typed(int n, float *x) {}
