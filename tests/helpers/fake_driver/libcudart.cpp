// A double of the CUDA runtime library for the tests: scikit-cuda asks it for versions and error names.
extern "C" {
const char *cudaGetErrorString(int) { return "an error"; }
int cudaRuntimeGetVersion(int *version) { return *version = 13000, 0; }
int cudaDriverGetVersion(int *version) { return *version = 13000, 0; }
}
