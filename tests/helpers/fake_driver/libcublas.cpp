// A double of cuBLAS for the tests: sgemm in plain loops, on the memory of the driver's double.
//
// Like cuBLAS it is column-major, refuses a leading dimension below the row count, and if beta is 0 does not
// read C. In TF32 mode it cuts the factors to 11 bits, so that a test can see the mode.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

extern "C" {
int double_give(void *stream, void *task);
void double_open();
void double_close();
bool double_current();
int double_dead();
bool double_holds(const void *from, std::size_t bytes);

enum { OK = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, TF32 = 3 };
struct Handle {
    int mode;
    void *stream, *workspace;
};

static int handles;
int double_handles() { return handles; }
int cublasCreate_v2(void **handle) {
    return handles++, *handle = new Handle(), double_current() ? OK : NOT_INITIALIZED;
}
int cublasDestroy_v2(void *handle) { return delete (Handle *)handle, OK; }
int cublasGetVersion_v2(void *, int *version) { return *version = 130000, OK; }
int cublasGetProperty(int part, int *value) { return *value = part == 0 ? 13 : 0, OK; }
int cublasSetMathMode(void *handle, int mode) { return ((Handle *)handle)->mode = mode, OK; }

int cublasSetStream_v2(void *handle, void *stream) {
    return ((Handle *)handle)->stream = stream, ((Handle *)handle)->workspace = nullptr, OK;
}
int cublasSetWorkspace_v2(void *handle, void *workspace, std::size_t bytes) {
    bool fits = (std::size_t)workspace % 256 == 0 && double_holds(workspace, bytes);
    return fits ? ((Handle *)handle)->workspace = workspace, OK : INVALID_VALUE;
}

static float cut(float value, bool tf32) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (tf32) bits &= ~0x1fffu;
    memcpy(&value, &bits, sizeof bits);
    return value;
}

int cublasSgemm_v2(void *handle, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda,
                   const float *b, int ldb, const float *beta, float *c, int ldc) {
    auto at_least = [](int rows) { return rows > 1 ? rows : 1; };
    if (m < 0 || n < 0 || k < 0 || lda < at_least(ta ? k : m) || ldb < at_least(tb ? n : k) || ldc < at_least(m))
        return INVALID_VALUE;
    if (double_dead()) return EXECUTION_FAILED;
    // Without a workspace of its own cuBLAS may allocate, which the double counts as a mistake.
    if (((Handle *)handle)->stream && !((Handle *)handle)->workspace) return EXECUTION_FAILED;
    bool tf32 = ((Handle *)handle)->mode == TF32;
    float by = *alpha, before = *beta;
    std::function<void()> task = [=] {
        double_open();
        auto of = [&](const float *matrix, std::size_t at) { return cut(matrix[at], tf32); };
        for (std::size_t j = 0; j < (std::size_t)n; j++)
            for (std::size_t i = 0; i < (std::size_t)m; i++) {
                double total = 0;
                for (std::size_t l = 0; l < (std::size_t)k; l++)
                    total += (double)of(a, ta ? i * lda + l : l * lda + i) * of(b, tb ? l * ldb + j : j * ldb + l);
                float *to = c + j * ldc + i;
                *to = (float)(by * total) + (before == 0 ? 0.0f : before * *to);
            }
        double_close();
    };
    double_open();
    bool held = true;
    auto inside = [&](const float *matrix, int columns, int ld, int rows) {
        for (std::size_t j = 0; j < (std::size_t)columns; j++)
            held &= double_holds(matrix + j * ld, sizeof(float) * (std::size_t)rows);
    };
    inside(a, ta ? m : k, lda, ta ? k : m), inside(b, tb ? k : n, ldb, tb ? n : k), inside(c, n, ldc, m);
    int code = held ? double_give(((Handle *)handle)->stream, &task) : EXECUTION_FAILED;
    double_close();
    return code ? EXECUTION_FAILED : OK;
}
}
