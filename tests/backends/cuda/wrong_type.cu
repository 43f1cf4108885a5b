// For own.py: x is not an array of int.
extern "C" __global__ void wrong_type_fprop(const int *x, float *y) {
}
