// Of tests/cuda/own.py: x is no array of int.
extern "C" __global__ void wrong_type_fprop(const int *x, float *y) {
}
