// For own.py: N is a number.
extern "C" __global__ void number_as_array_fprop(const float *x, int *N) {
}
