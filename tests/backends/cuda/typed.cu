// A kernel that does nothing, for tests/test_gpu.py.
extern "C" __global__ void typed(int n, float *x) {}
