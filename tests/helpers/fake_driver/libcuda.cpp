// A double of NVIDIA's driver, to run PyCUDA where there is no GPU: libcuda.so.1 for the tests.
//
// Its memory is an arena that the process may touch only during a call in here: host code that follows a
// device address crashes. Modules are not cubins but libraries of kernels built for minet's emulator. Like
// the driver, it reports a kernel's fault late: the launch succeeds, and whatever comes after fails. Freed
// and fresh memory is filled with 0xff. Calls that are not modelled return CUDA_ERROR_NOT_SUPPORTED (see
// double.py).
//
// What is given to a stream runs as late as possible: when something waits for it. So a host that reads too
// early, or writes to page-locked memory too soon, gets wrong numbers. A stream of the blocking kind is
// finished before anything in the default stream. While it is captured, the default stream is refused (906),
// and so is waiting (900); after that the capture has failed (901).
//
// Environment: DOUBLE_MEMORY in bytes, DOUBLE_DEVICES, DOUBLE_VERSION (13000), DOUBLE_INIT (returned by
//              cuInit),
//              DOUBLE_THREADS that fit in a block, DOUBLE_LOG, a file to which each call's name is appended.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <dlfcn.h>
#include <elf.h>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "launch.h" // Array, Who, Launch: the emulator's input; OUTSIDE, a fault

typedef unsigned long long Pointer;
enum {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
    INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700,
    OUT_OF_RESOURCES = 701, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901, CAPTURE_IMPLICIT = 906,
};
static const std::map<int, const char *> MESSAGES = {
    {0, "no error"}, {1, "invalid argument"}, {2, "out of memory"}, {3, "initialization error"},
    {100, "no CUDA-capable device is detected"}, {101, "invalid device ordinal"},
    {200, "device kernel image is invalid"}, {201, "invalid device context"}, {400, "invalid resource handle"},
    {500, "named symbol not found"}, {700, "an illegal memory access was encountered"},
    {701, "too many resources requested for launch"}, {719, "unspecified launch failure"},
    {801, "operation not supported"},
    {803, "system has unsupported display driver / cuda driver combination"},
    {900, "operation not permitted when stream is capturing"},
    {901, "operation failed due to a previous error during capture"},
    {906, "operation would make the legacy stream depend on a capturing blocking stream"},
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

// -- streams and graphs, on which the calls below rest ---------------------------------------------------------

typedef std::function<void()> Task;
struct Kernel {
    void *function;
    unsigned sizes[6], shared;
    std::string args;
};
struct Node {
    Task task; // empty for a kernel
    Kernel kernel;
};
struct Graph { std::deque<Node> nodes; };
struct Executable {
    Graph *graph;
    std::deque<Node> nodes;
};
struct Stream {
    bool blocking;
    std::deque<Task> queue;
    std::size_t given, done;
    Graph *capture;
    bool broken;
    Node *last;
};
struct Event {
    double time;
    Stream *stream; // null if nothing was recorded, or in the default stream
    std::size_t place;
};
static std::vector<Stream *> streams; // in the order in which they were created, and are run
static std::set<void *> locked; // page-locked memory

static void run(Stream *stream, std::size_t to) {
    while (stream->done < to && stream->queue.size()) {
        Task task = stream->queue.front();
        stream->queue.pop_front(), stream->done++;
        if (!dead) task();
    }
}
static void run_all(bool blocking_only) {
    for (Stream *stream : streams)
        if (stream->blocking || !blocking_only) run(stream, stream->given);
}
static void run_kernel(const Kernel &kernel);
static int give(Stream *stream, Task task, Kernel kernel = {}) {
    if (!stream->capture) return stream->queue.push_back(task), stream->given++, OK;
    if (stream->broken) return CAPTURE_INVALIDATED;
    stream->capture->nodes.push_back({kernel.function ? Task() : task, kernel});
    return stream->last = &stream->capture->nodes.back(), OK;
}
// A capture that may not go on: the code, and the stream is broken.
static int refused(int code, bool blocking_only) {
    int answer = OK;
    for (Stream *stream : streams)
        if (stream->capture && (stream->blocking || !blocking_only)) stream->broken = true, answer = code;
    return answer;
}
static Stream *known(void *stream) {
    auto found = std::find(streams.begin(), streams.end(), stream);
    return found == streams.end() ? nullptr : *found;
}

// cublasSgemm on a stream, for the double of cuBLAS.
extern "C" int double_give(void *stream, void *task) {
    Stream *to = known(stream);
    if (!to) return run_all(true), (*(Task *)task)(), OK;
    return give(to, *(Task *)task);
}

// The start of most calls.
#define IN_CONTEXT                                                                                         \
    Open open(__func__);                                                                                   \
    if (!ready) return NOT_INITIALIZED;                                                                    \
    if (contexts.empty()) return INVALID_CONTEXT;                                                          \
    if (dead) return dead
// The start of a call in the default stream.
#define IN_DEFAULT_STREAM                                                                                  \
    IN_CONTEXT;                                                                                            \
    if (int code = refused(CAPTURE_IMPLICIT, true)) return code;                                           \
    run_all(true);                                                                                         \
    if (dead) return dead
// The start of a call on a stream; the default one runs at once.
#define IN_STREAM                                                                                          \
    IN_CONTEXT;                                                                                            \
    Stream *to = known(stream);                                                                            \
    if (stream && !to) return INVALID_HANDLE;                                                              \
    if (!to) {                                                                                             \
        if (int code = refused(CAPTURE_IMPLICIT, true)) return code;                                       \
        run_all(true);                                                                                     \
        if (dead) return dead;                                                                             \
    }
#define RUN_OR_GIVE(task)                                                                                  \
    Task work = task;                                                                                      \
    if (to) return give(to, work);                                                                         \
    return work(), OK

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
    if (int code = refused(CAPTURE_UNSUPPORTED, false)) return code;
    return run_all(false), dead;
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
    run_all(false);
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
    IN_DEFAULT_STREAM;
    return holds(to, bytes) ? memcpy((void *)to, from, bytes), OK : INVALID_VALUE;
}
int cuMemcpyDtoH_v2(void *to, Pointer from, std::size_t bytes) {
    IN_DEFAULT_STREAM;
    return holds(from, bytes) ? memcpy(to, (void *)from, bytes), OK : INVALID_VALUE;
}
int cuMemcpyDtoD_v2(Pointer to, Pointer from, std::size_t bytes) {
    IN_DEFAULT_STREAM;
    return holds(to, bytes) && holds(from, bytes) ? memmove((void *)to, (void *)from, bytes), OK : INVALID_VALUE;
}

int cuMemHostAlloc(void **out, std::size_t bytes, unsigned) {
    IN_CONTEXT;
    *out = malloc(bytes), memset(*out, 0xff, bytes);
    return locked.insert(*out), OK;
}
int cuMemFreeHost(void *at) {
    IN_CONTEXT;
    run_all(false);
    return locked.erase(at) ? free(at), OK : INVALID_VALUE;
}
int cuMemcpyHtoDAsync_v2(Pointer to_, const void *from, std::size_t bytes, void *stream) {
    IN_STREAM;
    if (!holds(to_, bytes)) return INVALID_VALUE;
    if (locked.count((void *)from)) {
        RUN_OR_GIVE(([=] { memcpy((void *)to_, from, bytes); }));
    }
    std::string copy((const char *)from, bytes); // of memory that is not page-locked
    RUN_OR_GIVE(([=] { memcpy((void *)to_, copy.data(), bytes); }));
}
int cuMemcpyDtoHAsync_v2(void *to_, Pointer from, std::size_t bytes, void *stream) {
    IN_STREAM;
    if (!holds(from, bytes)) return INVALID_VALUE;
    Task task = [=] { memcpy(to_, (void *)from, bytes); };
    if (to && !locked.count(to_)) { // the driver waits
        if (to->capture) return refused(CAPTURE_UNSUPPORTED, false);
        return give(to, task), run(to, to->given), dead;
    }
    RUN_OR_GIVE(task);
}
int cuMemcpyDtoDAsync_v2(Pointer to_, Pointer from, std::size_t bytes, void *stream) {
    IN_STREAM;
    if (!holds(to_, bytes) || !holds(from, bytes)) return INVALID_VALUE;
    RUN_OR_GIVE(([=] { memmove((void *)to_, (void *)from, bytes); }));
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
    IN_DEFAULT_STREAM;
    return copy(c, 0, 0, 1);
}
int cuMemcpy2DUnaligned_v2(const Copy2D *c) {
    IN_DEFAULT_STREAM;
    return copy(c, 0, 0, 1);
}
extern "C++" {
template <class Copy> static int copy_later(const Copy *c, std::size_t a, std::size_t b, std::size_t depth, Stream *to) {
    constexpr int HOST = 1;
    Copy kept = *c;
    if (to && c->from_type != HOST && c->to_type != HOST)
        return give(to, [=] { copy(&kept, a, b, depth); });
    if (to && to->capture) return refused(CAPTURE_UNSUPPORTED, false);
    if (to) run(to, to->given);
    return copy(c, a, b, depth);
}
}
int cuMemcpy2DAsync_v2(const Copy2D *c, void *stream) {
    IN_STREAM;
    return copy_later(c, 0, 0, 1, to);
}
int cuMemcpy3DAsync_v2(const Copy3D *c, void *stream) {
    IN_STREAM;
    return copy_later(c, c->from_height, c->to_height, c->depth, to);
}
int cuMemcpy3D_v2(const Copy3D *c) {
    IN_DEFAULT_STREAM;
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
    IN_DEFAULT_STREAM;
    return set(at, 0, value, count, 1);
}
int cuMemsetD16_v2(Pointer at, unsigned short value, std::size_t count) {
    IN_DEFAULT_STREAM;
    return set(at, 0, value, count, 1);
}
int cuMemsetD32_v2(Pointer at, unsigned value, std::size_t count) {
    IN_DEFAULT_STREAM;
    return set(at, 0, value, count, 1);
}
int cuMemsetD2D32_v2(Pointer at, std::size_t pitch, unsigned value, std::size_t width, std::size_t rows) {
    IN_DEFAULT_STREAM;
    return set(at, pitch, value, width, rows);
}

int cuMemsetD8Async(Pointer at, unsigned char value, std::size_t count, void *stream) {
    IN_STREAM;
    if (!holds(at, count)) return INVALID_VALUE;
    RUN_OR_GIVE(([=] { set(at, 0, value, count, 1); }));
}
int cuMemsetD16Async(Pointer at, unsigned short value, std::size_t count, void *stream) {
    IN_STREAM;
    if (!holds(at, 2 * count)) return INVALID_VALUE;
    RUN_OR_GIVE(([=] { set(at, 0, value, count, 1); }));
}
int cuMemsetD32Async(Pointer at, unsigned value, std::size_t count, void *stream) {
    IN_STREAM;
    if (!holds(at, 4 * count)) return INVALID_VALUE;
    RUN_OR_GIVE(([=] { set(at, 0, value, count, 1); }));
}
int cuMemsetD2D32Async(Pointer at, std::size_t pitch, unsigned value, std::size_t width, std::size_t rows, void *stream) {
    IN_STREAM;
    RUN_OR_GIVE(([=] { set(at, pitch, value, width, rows); }));
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
    IN_STREAM;
    bool fits = gx && gy && gz && gx < 1u << 31 && gy < 1u << 16 && gz < 1u << 16;
    if (!fits || !bx || !by || !bz || bz > 64 || (uint64_t)bx * by * bz > 1024) return INVALID_VALUE;
    if (params || !extra) return NOT_SUPPORTED;
    if (bx * by * bz > setting("DOUBLE_THREADS", 1024)) return OUT_OF_RESOURCES;
    Kernel kernel = {function, {gx, gy, gz, bx, by, bz}, shared, {}};
    const char *buffer = nullptr;
    for (void **e = extra; *e; e += 2) {
        if ((std::size_t)e[0] == 1) buffer = (const char *)e[1];
        if ((std::size_t)e[0] == 2) kernel.args.assign(buffer, *(std::size_t *)e[1]);
    }
    if (to) return give(to, [=] { run_kernel(kernel); }, kernel);
    return run_kernel(kernel), OK;
}
extern "C++" {
static void run_kernel(const Kernel &kernel) {
    std::vector<Array> arrays;
    for (auto [start, length] : taken) arrays.push_back({(decltype(Array::start))(arena + start), length, 1});
    Launch launch = {};
    memcpy(launch.grid, kernel.sizes, sizeof launch.grid), memcpy(launch.block, kernel.sizes + 3, sizeof launch.block);
    launch.dynamic_shared = kernel.shared;
    launch.args = (decltype(Launch::args))kernel.args.data(), launch.args_size = (uint32_t)kernel.args.size();
    launch.array = arrays.data(), launch.arrays = (uint32_t)arrays.size();
    launch.interrupted = (decltype(Launch::interrupted))never, launch.most_steps = (uint64_t)-1;
    int fault = ((int (*)(void *))kernel.function)(&launch);
    if (fault) dead = fault == OUTSIDE ? ILLEGAL_ADDRESS : LAUNCH_FAILED;
}
}

// -- streams ----------------------------------------------------------------------------------------------

int cuStreamCreate(void **stream, unsigned flags) {
    IN_CONTEXT;
    streams.push_back(new Stream{!(flags & 1), {}, 0, 0, nullptr, false, nullptr});
    return *stream = streams.back(), OK;
}
int cuStreamDestroy_v2(void *stream) {
    Open open(__func__);
    Stream *old = known(stream);
    if (!old) return INVALID_HANDLE;
    run(old, old->given);
    return streams.erase(std::find(streams.begin(), streams.end(), old)), delete old, OK;
}
int cuStreamSynchronize(void *stream) {
    IN_STREAM;
    if (!to) return dead;
    if (to->capture) return refused(CAPTURE_UNSUPPORTED, false);
    return run(to, to->given), dead;
}
int cuStreamWaitEvent(void *stream, void *event, unsigned) {
    IN_STREAM;
    Event at = *(Event *)event;
    if (!to || !at.stream) return OK;
    if (to->capture) return NOT_SUPPORTED;
    return give(to, [=] { run(at.stream, at.place); });
}

// -- graphs -----------------------------------------------------------------------------------------------

int cuStreamBeginCapture_v2(void *stream, int mode) {
    IN_CONTEXT;
    Stream *to = known(stream);
    if (!to) return stream ? INVALID_HANDLE : CAPTURE_UNSUPPORTED; // the default stream
    if (to->capture || mode < 0 || mode > 2) return INVALID_VALUE;
    return to->capture = new Graph(), to->broken = false, to->last = nullptr, OK;
}
int cuStreamEndCapture(void *stream, void **graph) {
    IN_CONTEXT;
    Stream *to = known(stream);
    if (!to || !to->capture) return INVALID_VALUE;
    *graph = to->broken ? nullptr : to->capture;
    to->capture = nullptr;
    return to->broken ? CAPTURE_INVALIDATED : OK;
}
int cuStreamGetCaptureInfo_v2(void *stream, int *status, uint64_t *, void **graph, void ***nodes, std::size_t *count) {
    IN_CONTEXT;
    Stream *to = known(stream);
    if (!to) return INVALID_HANDLE;
    *status = to->capture ? to->broken ? 2 : 1 : 0, *graph = to->capture;
    return *nodes = (void **)&to->last, *count = to->last ? 1 : 0, OK;
}
struct KernelNodeParams {
    void *function;
    unsigned sizes[6], shared;
    void **arguments, **extra;
};
int cuGraphKernelNodeGetParams(void *node, KernelNodeParams *params) {
    IN_CONTEXT;
    const Kernel &kernel = ((Node *)node)->kernel;
    if (!kernel.function) return INVALID_VALUE;
    *params = {kernel.function, {}, kernel.shared, nullptr, nullptr};
    return memcpy(params->sizes, kernel.sizes, sizeof params->sizes), OK;
}
int cuGraphInstantiateWithFlags(void **executable, Graph *graph, unsigned long long) {
    IN_CONTEXT;
    return *executable = new Executable{graph, graph->nodes}, OK;
}
// The arguments must lie in one block as for a launch: the double does not know their sizes.
int cuGraphExecKernelNodeSetParams(Executable *executable, void *node, const KernelNodeParams *params) {
    IN_CONTEXT;
    for (std::size_t i = 0; i < executable->nodes.size(); i++)
        if (&executable->graph->nodes[i] == node) {
            Kernel &kernel = executable->nodes[i].kernel;
            if (kernel.function != params->function || !params->arguments || params->extra) return INVALID_VALUE;
            kernel.args.assign((const char *)params->arguments[0], kernel.args.size());
            return OK;
        }
    return INVALID_VALUE;
}
int cuGraphLaunch(Executable *executable, void *stream) {
    IN_STREAM;
    if (!to) return NOT_SUPPORTED;
    for (const Node &node : executable->nodes) {
        Kernel kernel = node.kernel;
        give(to, kernel.function ? Task([=] { run_kernel(kernel); }) : node.task, kernel);
    }
    return OK;
}
int cuGraphDestroy(Graph *graph) { return delete graph, OK; }
int cuGraphExecDestroy(Executable *executable) { return delete executable, OK; }

// -- events -----------------------------------------------------------------------------------------------

int cuEventCreate(void **event, unsigned) { return *event = new Event{0, nullptr, 0}, OK; }
int cuEventDestroy_v2(void *event) { return delete (Event *)event, OK; }
int cuEventRecord(void *event, void *stream) {
    IN_STREAM;
    Event *at = (Event *)event;
    auto mark = [=] {
        std::chrono::duration<double, std::milli> now = std::chrono::steady_clock::now().time_since_epoch();
        at->time = now.count();
    };
    if (!to) return at->stream = nullptr, mark(), OK;
    if (to->capture) return NOT_SUPPORTED;
    int code = give(to, mark);
    return at->stream = to, at->place = to->given, code;
}
int cuEventSynchronize(void *event) {
    IN_CONTEXT;
    Event *at = (Event *)event;
    if (int code = refused(CAPTURE_UNSUPPORTED, false)) return code;
    if (at->stream) run(at->stream, at->place);
    return dead;
}
int cuEventElapsedTime_v2(float *ms, void *from, void *to) {
    run_all(false);
    return *ms = (float)(((Event *)to)->time - ((Event *)from)->time), OK;
}
int cuEventElapsedTime(float *ms, void *from, void *to) { return cuEventElapsedTime_v2(ms, from, to); }
}
