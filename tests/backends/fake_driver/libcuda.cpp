// A double of NVIDIA's driver, to run PyCUDA where there is no GPU: libcuda.so.1 for the tests.
//
// Its memory is an arena that the process may touch only during a call in here: host code that follows a
// device address crashes. Modules are not cubins but libraries of kernels built for minet's emulator. Like
// the driver, it reports a kernel's fault late: the launch succeeds, and whatever comes after fails. Freed
// and fresh memory is filled with 0xff. Calls that are not modelled return CUDA_ERROR_NOT_SUPPORTED (see
// double.py).
//
// Environment: DOUBLE_MEMORY in bytes, DOUBLE_DEVICES, DOUBLE_VERSION (13000), DOUBLE_INIT (returned by
//              cuInit),
//              DOUBLE_THREADS that fit in a block, DOUBLE_LOG, a file to which each call's name is appended.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <map>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "launch.h" // Array, Who, Launch: the emulator's input; OUTSIDE, a fault

typedef unsigned long long Pointer;
enum {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
    INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700,
    OUT_OF_RESOURCES = 701, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801,
};
static const std::map<int, const char *> MESSAGES = {
    {0, "no error"}, {1, "invalid argument"}, {2, "out of memory"}, {3, "initialization error"},
    {100, "no CUDA-capable device is detected"}, {101, "invalid device ordinal"},
    {200, "device kernel image is invalid"}, {201, "invalid device context"}, {400, "invalid resource handle"},
    {500, "named symbol not found"}, {700, "an illegal memory access was encountered"},
    {701, "too many resources requested for launch"}, {719, "unspecified launch failure"},
    {801, "operation not supported"},
    {803, "system has unsupported display driver / cuda driver combination"},
};

static long setting(const char *name, long otherwise) {
    const char *value = getenv(name);
    return value ? atol(value) : otherwise;
}

static std::size_t memory() { return (std::size_t)setting("DOUBLE_MEMORY", 1l << 30); }

static bool ready;
static int dead; // what killed the context
static thread_local std::vector<void *> contexts;
static int primary;
static char *arena;
static std::size_t size;
static std::map<std::size_t, std::size_t> taken; // bytes, by their offset in the arena
static int inside;

extern "C" void double_open() {
    if (!arena) {
        size = 8 * memory(); // more addresses than memory, so gaps between arrays cost none
        arena = (char *)mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (arena == MAP_FAILED) abort();
    }
    if (!inside++) mprotect(arena, size, PROT_READ | PROT_WRITE);
}
extern "C" void double_close() {
    if (!--inside) mprotect(arena, size, PROT_NONE);
}
extern "C" bool double_current() { return !contexts.empty(); }
extern "C" int double_dead() { return dead; }

// Whether this many bytes from there on are in one allocation.
extern "C" bool double_holds(const void *from, std::size_t bytes) {
    std::size_t at = (std::size_t)((const char *)from - arena);
    auto next = taken.upper_bound(at);
    if (next == taken.begin()) return false;
    auto [start, length] = *--next;
    return at + bytes <= start + length;
}
static bool holds(Pointer from, std::size_t bytes) { return double_holds((void *)from, bytes); }

struct Open {
    Open(const char *name) {
        if (const char *file = getenv("DOUBLE_LOG"))
            if (FILE *log = fopen(file, "a")) fprintf(log, "%s\n", name), fclose(log);
        double_open();
    }
    ~Open() { double_close(); }
};
// The start of most calls.
#define IN_CONTEXT                                                                                         \
    Open open(__func__);                                                                                   \
    if (!ready) return NOT_INITIALIZED;                                                                    \
    if (contexts.empty()) return INVALID_CONTEXT;                                                          \
    if (dead) return dead

extern "C" {

int cuGetErrorString(int code, const char **message) {
    auto found = MESSAGES.find(code);
    *message = found == MESSAGES.end() ? nullptr : found->second;
    return *message ? OK : INVALID_VALUE;
}
int cuInit(unsigned) {
    int answer = (int)setting("DOUBLE_INIT", setting("DOUBLE_DEVICES", 1) ? OK : NO_DEVICE);
    ready = answer == OK;
    return answer;
}
int cuDriverGetVersion(int *version) { return *version = (int)setting("DOUBLE_VERSION", 13000), OK; }

// -- devices and contexts ---------------------------------------------------------------------------------

int cuDeviceGetCount(int *count) { return *count = (int)setting("DOUBLE_DEVICES", 1), ready ? OK : NOT_INITIALIZED; }
int cuDeviceGet(int *device, int number) {
    return *device = number, number < setting("DOUBLE_DEVICES", 1) ? OK : INVALID_DEVICE;
}
int cuDeviceGetName(char *name, int length, int) { return snprintf(name, (std::size_t)length, "Double"), OK; }
int cuDeviceComputeCapability(int *major, int *minor, int) { return *major = 9, *minor = 0, OK; }
int cuDeviceTotalMem_v2(std::size_t *bytes, int) { return *bytes = memory(), OK; }
int cuDeviceGetAttribute(int *value, int attribute, int) {
    static const std::map<int, int> known = {{1, 1024}, {10, 32}, {16, 4}, {39, 2048}, {75, 9}, {76, 0}};
    auto found = known.find(attribute);
    return *value = found == known.end() ? 0 : found->second, OK;
}
int cuDevicePrimaryCtxRetain(void **context, int) { return *context = &primary, ready ? OK : NOT_INITIALIZED; }
int cuDevicePrimaryCtxRelease_v2(int) { return OK; }
int cuDevicePrimaryCtxRelease(int) { return OK; }
int cuCtxDetach(void *) { return OK; }
int cuCtxPushCurrent_v2(void *context) { return contexts.push_back(context), OK; }
int cuCtxPopCurrent_v2(void **context) {
    if (contexts.empty()) return INVALID_CONTEXT;
    return *context = contexts.back(), contexts.pop_back(), OK;
}
int cuCtxGetDevice(int *device) { return *device = 0, contexts.empty() ? INVALID_CONTEXT : OK; }
int cuCtxSynchronize() {
    IN_CONTEXT;
    return OK;
}

// -- memory -------------------------------------------------------------------------------------------------

static std::size_t unused() {
    std::size_t left = memory();
    for (auto [start, length] : taken) left -= (length + 255) / 256 * 256;
    return left;
}
int cuMemAlloc_v2(Pointer *out, std::size_t bytes) {
    IN_CONTEXT;
    if (!bytes) return INVALID_VALUE;
    std::size_t at = 0, room = (bytes + 255) / 256 * 256;
    if (room > unused()) return OUT_OF_MEMORY;
    for (auto [start, length] : taken) {
        if (start - at >= room) break;
        at = (start + length + 255) / 256 * 256;
    }
    if (at + room > size) return OUT_OF_MEMORY; // unlike a GPU, which can fill such gaps
    taken[at] = bytes;
    memset(arena + at, 0xff, bytes);
    return *out = (Pointer)(arena + at), OK;
}
int cuMemFree_v2(Pointer at) {
    IN_CONTEXT;
    auto found = taken.find((std::size_t)((char *)at - arena));
    if (found == taken.end()) return INVALID_VALUE;
    memset((char *)at, 0xff, found->second);
    return taken.erase(found), OK;
}
int cuMemGetInfo_v2(std::size_t *free, std::size_t *total) {
    IN_CONTEXT;
    return *total = memory(), *free = unused(), OK;
}
int cuMemcpyHtoD_v2(Pointer to, const void *from, std::size_t bytes) {
    IN_CONTEXT;
    return holds(to, bytes) ? memcpy((void *)to, from, bytes), OK : INVALID_VALUE;
}
int cuMemcpyDtoH_v2(void *to, Pointer from, std::size_t bytes) {
    IN_CONTEXT;
    return holds(from, bytes) ? memcpy(to, (void *)from, bytes), OK : INVALID_VALUE;
}
int cuMemcpyDtoD_v2(Pointer to, Pointer from, std::size_t bytes) {
    IN_CONTEXT;
    return holds(to, bytes) && holds(from, bytes) ? memmove((void *)to, (void *)from, bytes), OK : INVALID_VALUE;
}

struct Box { // one side of a 2-D or 3-D copy, without arrays and offsets
    bool on_device;
    char *at;
    std::size_t pitch, height;
};
static int copy_box(Box from, Box to, std::size_t width, std::size_t rows, std::size_t depth) {
    for (std::size_t z = 0; z < depth; z++)
        for (std::size_t y = 0; y < rows; y++) {
            char *source = from.at + (z * from.height + y) * from.pitch;
            char *target = to.at + (z * to.height + y) * to.pitch;
            if (from.on_device && !double_holds(source, width)) return INVALID_VALUE;
            if (to.on_device && !double_holds(target, width)) return INVALID_VALUE;
            memcpy(target, source, width);
        }
    return OK;
}
struct Copy2D {
    std::size_t from_x, from_y;
    int from_type;
    void *from_host;
    Pointer from_device;
    void *from_array;
    std::size_t from_pitch, to_x, to_y;
    int to_type;
    void *to_host;
    Pointer to_device;
    void *to_array;
    std::size_t to_pitch, width, rows;
};
struct Copy3D {
    std::size_t from_x, from_y, from_z, from_lod;
    int from_type;
    void *from_host;
    Pointer from_device;
    void *from_array, *reserved0;
    std::size_t from_pitch, from_height, to_x, to_y, to_z, to_lod;
    int to_type;
    void *to_host;
    Pointer to_device;
    void *to_array, *reserved1;
    std::size_t to_pitch, to_height, width, rows, depth;
};
extern "C++" {
template <class Copy>
static int copy(const Copy *c, std::size_t from_height, std::size_t to_height, std::size_t depth) {
    constexpr int HOST = 1, DEVICE = 2;
    if (c->from_x || c->from_y || c->to_x || c->to_y) return NOT_SUPPORTED;
    if (c->from_type > DEVICE || c->to_type > DEVICE) return NOT_SUPPORTED;
    Box from = {c->from_type == DEVICE, (char *)c->from_host, c->from_pitch, from_height};
    Box to = {c->to_type == DEVICE, (char *)c->to_host, c->to_pitch, to_height};
    if (c->from_type != HOST) from.at = (char *)c->from_device;
    if (c->to_type != HOST) to.at = (char *)c->to_device;
    return copy_box(from, to, c->width, c->rows, depth);
}
}
int cuMemcpy2D_v2(const Copy2D *c) {
    IN_CONTEXT;
    return copy(c, 0, 0, 1);
}
int cuMemcpy2DUnaligned_v2(const Copy2D *c) {
    IN_CONTEXT;
    return copy(c, 0, 0, 1);
}
int cuMemcpy3D_v2(const Copy3D *c) {
    IN_CONTEXT;
    return copy(c, c->from_height, c->to_height, c->depth);
}

extern "C++" {
template <class T> static int set(Pointer at, std::size_t pitch, T value, std::size_t width, std::size_t rows) {
    for (std::size_t y = 0; y < rows; y++)
        for (std::size_t x = 0; x < width; x++) {
            T *place = (T *)(at + y * pitch) + x;
            if (!double_holds(place, sizeof value)) return INVALID_VALUE;
            *place = value;
        }
    return OK;
}
}
int cuMemsetD8_v2(Pointer at, unsigned char value, std::size_t count) {
    IN_CONTEXT;
    return set(at, 0, value, count, 1);
}
int cuMemsetD16_v2(Pointer at, unsigned short value, std::size_t count) {
    IN_CONTEXT;
    return set(at, 0, value, count, 1);
}
int cuMemsetD32_v2(Pointer at, unsigned value, std::size_t count) {
    IN_CONTEXT;
    return set(at, 0, value, count, 1);
}
int cuMemsetD2D32_v2(Pointer at, std::size_t pitch, unsigned value, std::size_t width, std::size_t rows) {
    IN_CONTEXT;
    return set(at, pitch, value, width, rows);
}

// -- modules and kernels --------------------------------------------------------------------------------------

int cuModuleLoadData(void **module, const void *image) {
    IN_CONTEXT;
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)image;
    if (memcmp(head->e_ident, ELFMAG, SELFMAG)) return INVALID_IMAGE;
    std::size_t bytes = head->e_shoff + (std::size_t)head->e_shnum * head->e_shentsize; // sections come last
    char file[] = "/tmp/minet-double-XXXXXX";
    int to = mkstemp(file);
    bool written = to >= 0 && write(to, image, bytes) == (ssize_t)bytes;
    close(to);
    *module = written ? dlopen(file, RTLD_NOW | RTLD_LOCAL) : nullptr;
    unlink(file);
    if (!*module) fprintf(stderr, "%s\n", dlerror());
    return *module ? OK : INVALID_IMAGE;
}
int cuModuleLoadDataEx(void **module, const void *image, unsigned count, int *options, void **values) {
    for (unsigned i = 0; i < count; i++) { // the logs (3, 5), of sizes (4, 6), stay empty
        if (options[i] == 3 || options[i] == 5) *(char *)values[i] = 0;
        if (options[i] == 4 || options[i] == 6) values[i] = nullptr;
    }
    return cuModuleLoadData(module, image);
}
int cuModuleUnload(void *module) { return dlclose(module), OK; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    IN_CONTEXT;
    *function = dlsym(module, (std::string("emu_") + name).c_str());
    return *function ? OK : NOT_FOUND;
}

static int never() { return 0; }

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **params, void **extra) {
    IN_CONTEXT;
    bool fits = gx && gy && gz && gx < 1u << 31 && gy < 1u << 16 && gz < 1u << 16;
    if (!fits || !bx || !by || !bz || bz > 64 || (uint64_t)bx * by * bz > 1024) return INVALID_VALUE;
    if (params || !extra || stream) return NOT_SUPPORTED;
    if (bx * by * bz > setting("DOUBLE_THREADS", 1024)) return OUT_OF_RESOURCES;
    std::string args;
    const char *buffer = nullptr;
    for (void **e = extra; *e; e += 2) {
        if ((std::size_t)e[0] == 1) buffer = (const char *)e[1];
        if ((std::size_t)e[0] == 2) args.assign(buffer, *(std::size_t *)e[1]);
    }
    std::vector<Array> arrays;
    for (auto [start, length] : taken) arrays.push_back({(decltype(Array::start))(arena + start), length, 1});
    Launch launch = {};
    unsigned sizes[] = {gx, gy, gz, bx, by, bz};
    memcpy(launch.grid, sizes, sizeof launch.grid), memcpy(launch.block, sizes + 3, sizeof launch.block);
    launch.dynamic_shared = shared;
    launch.args = (decltype(Launch::args))args.data(), launch.args_size = (uint32_t)args.size();
    launch.array = arrays.data(), launch.arrays = (uint32_t)arrays.size();
    launch.interrupted = (decltype(Launch::interrupted))never;
    int fault = ((int (*)(void *))function)(&launch);
    if (fault) dead = fault == OUTSIDE ? ILLEGAL_ADDRESS : LAUNCH_FAILED;
    return OK;
}

// -- events -----------------------------------------------------------------------------------------------

int cuEventCreate(void **event, unsigned) { return *event = new double(0), OK; }
int cuEventDestroy_v2(void *event) { return delete (double *)event, OK; }
int cuEventRecord(void *event, void *) {
    IN_CONTEXT;
    std::chrono::duration<double, std::milli> now = std::chrono::steady_clock::now().time_since_epoch();
    return *(double *)event = now.count(), OK;
}
int cuEventSynchronize(void *) { return cuCtxSynchronize(); }
int cuEventElapsedTime_v2(float *ms, void *from, void *to) {
    return *ms = (float)(*(double *)to - *(double *)from), OK;
}
int cuEventElapsedTime(float *ms, void *from, void *to) { return cuEventElapsedTime_v2(ms, from, to); }
}
