// Of tests/cuda/own.py: there is no q.
extern "C" __global__ void not_there_fprop(const float *x, float *y, float q) {
}
