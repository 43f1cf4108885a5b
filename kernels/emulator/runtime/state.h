// What the runtime knows: of the launch, its threads and its memory.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <ucontext.h>
#include <utility>
#include <vector>

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#endif

struct uint3 { unsigned x, y, z; };
struct EmuThread { uint3 thread, block; };
extern "C" { // constants for the kernels: within a thread they never change
extern char __start_emu_device[] __attribute__((weak, visibility("hidden"))); // __device__ and __constant__
extern char __stop_emu_device[] __attribute__((weak, visibility("hidden")));
__attribute__((visibility("hidden"))) EmuThread emu_now;
__attribute__((visibility("hidden"))) uint3 emu_grid, emu_block;
}

namespace {

struct Array { // of the launch; as in minet/backends/emulator_faults.py
    char *start;
    uint64_t bytes, unit; // the size of an element: races are found per element
};
struct Who { // one side of a fault
    uint32_t thread, block;
    uint64_t code; // 0: there is no other side; 1: it had already ended
};
struct Launch { // as in minet/backends/emulator_faults.py
    uint32_t grid[3], block[3], dynamic_shared, order, arrays, args_size;
    const char *args;
    const Array *array;
    int (*interrupted)();
    uint64_t most_steps; // of a block
    uint32_t fault, bytes, writes; // what was found, and at which access
    char *address;
    Who who[2];
    const char *what;
    // Of minet.emulator alone; a layer's launch has zeros here.
    uint32_t flags, fill;     // fill: turns the bytes of unwritten shared memory into others than 0xff
    char *dynamic;            // where dynamic shared memory lies, if the kernel's file has a place for it
    const char *output;       // what the kernel printed
    uint64_t output_bytes;
    uint32_t unwritten_bytes; // a read of unwritten shared memory that did not end the launch
    Who unwritten;
    char *unwritten_at;
    uint32_t guards;           // bytes among the kernel's shared variables that are the compiler's own:
    const uint64_t *guard;     // where each begins and ends, counted from the first variable
    char *shared;              // where this launch's dynamic shared memory was
    Who absent;                // who was the first to read a lane that was not there
};
enum Flag { TELL_SAME_VALUE = 1, ALLOW_SAME_VALUE = 2, GO_ON_UNWRITTEN = 4, COOPERATIVE = 8 };
enum Fault { // as in minet/backends/emulator_faults.py
    NONE, OUTSIDE, UNWRITTEN, RACE, DIVERGENT, WARP, MISALIGNED, UNDEFINED, STOPPED, STACK, INTERRUPTED,
    ENDLESS, SAME_VALUE, REFUSED, FREED, GRID_DIVERGENT, GRID_TOO_LARGE, ABSENT
};
enum Status { FRESH, RUNNING, AT_BLOCK, AT_GRID, AT_WARP, DONE };
enum Kind { READ, WRITE, ATOMIC };
constexpr unsigned ACTIVE = ~0u; // the operation of lanes that meet whoever comes

// The runtime's own memory does not come from `operator new`, which in a kernel is the device's.
template <class T> struct Plain {
    typedef T value_type;
    Plain() = default;
    template <class U> Plain(const Plain<U> &) {}
    T *allocate(std::size_t n) {
        void *room = calloc(n, sizeof(T));
        if (!room) abort();
        return (T *)room;
    }
    void deallocate(T *at, std::size_t) { free(at); }
    template <class U> bool operator==(const Plain<U> &) const { return true; }
    template <class U> bool operator!=(const Plain<U> &) const { return false; }
};
template <class T> using List = std::vector<T, Plain<T>>;

constexpr std::size_t STACK_SIZE = 1 << 20, MARGIN = 64 << 10; // a GPU gives a thread up to 512 KiB
constexpr std::size_t MOST_PRINTED = 1 << 24;
constexpr std::size_t MOST_DYNAMIC = 227 << 10; // as in emulator_cuda.h
constexpr std::size_t KEPT = 32; // fibers, from launch to launch
constexpr uint64_t MOST_FIBERS = 24 << 10; // each has two of the 65530 mappings that Linux gives a process
constexpr unsigned SMS = 132, SM_THREADS = 2048, SM_BLOCKS = 32, SM_SHARED = 228 << 10; // of an H100
constexpr uint32_t PATIENCE = 1 << 22;                         // steps between checks for a Ctrl-C

struct Fiber {
    ucontext_t context; // to begin
    void *there[5];     // to resume
    bool begun;
    char *stack;
    void *fake; // AddressSanitizer's fake stack
};
struct Copy { // into shared memory, under way
    char *to;
    const char *from;
    unsigned bytes, zeros, batch; // zeros: of the bytes, at the end
    uint64_t code;
};
struct Thread {
    unsigned number;
    uint3 index;
    Status status;
    Fiber *fiber;
    unsigned mask, group, op, line; // at a barrier: lanes waited for, lanes that came, which barrier
    uint64_t value, code, brought;  // the value it brings, and from where; the last one's value
    uint32_t clock[32];
    List<Copy> copies; // in their order
    unsigned batch;    // copies committed so far, as batches
    uint16_t fences;   // calls of __threadfence() so far
};
struct Place { // what is known about an array element, or a byte of shared memory
    uint32_t write_run, write_epoch, write_stamp, write_code; // run: which block
    uint32_t read_run, read_epoch, read_stamp, read_code;
    uint32_t lanes; // of the reader's warp that have read since they were last ordered
    uint32_t other_run, other_code;
    uint16_t writer, reader, other; // other: a reader in another warp or block
    uint16_t write_fences;          // the writer's, before it wrote
    bool atomic, warps, runs;       // last written by an atomic; read by several warps; in several blocks
};
struct Memory { // an array, or shared memory
    char *start;
    uint64_t bytes, unit;
    bool shared;
    Place *places;
    uint64_t room;
    uint64_t freed; // its size before a kernel freed it
};
struct Heap { // from a kernel's malloc: stays from launch to launch
    char *start;
    uint64_t bytes, unit;
};
struct Fences { // of a block: each thread's calls; each warp's barriers at its last one; the last one's epoch
    List<uint16_t> calls;
    List<uint32_t> stamps;
    uint32_t epoch;
};
struct Pending { // a write over another thread's, which may turn out to be of the same value
    char *at;
    unsigned bytes;
    char before[16];
    uint64_t code, other_code;
    uint32_t other, other_run;
    bool read; // or a read beside atomic operations, which a compare-and-swap may follow
};
struct Parked { // a block at a barrier of the grid
    List<Thread> threads;
    List<char> shared, written; // its bytes, and which of them it has written
    uint64_t steps;
    uint32_t run;
};

Launch *launch;
void (*body)(const char *);
List<Thread> threads;
List<uint32_t> events; // barriers so far, per warp
List<unsigned> sequence;
List<Fiber *> idle, all_fibers;
List<Memory> memories;
std::size_t used, last; // memories of this launch, and where the last access was
List<char> dynamic_memory, printed;
List<std::pair<char *, char *>> module;
List<std::pair<char *, char *>> guards;
List<Fences> fences; // of the runs, counted from since_grid
List<Parked> parked;
List<Heap> heap;
Pending pending;
void *scheduler_there[5];
void *scheduler_fake;
const void *scheduler_stack;
std::size_t scheduler_size;
Thread *self;
uint32_t run, first_run, epoch, patience; // run: blocks run so far, over all launches
uint32_t since_grid; // the first run after the last barrier of the grid
unsigned begun;
uint64_t blocks, stride, votes, steps; // steps: of this block
bool pausing;
List<bool> acquired; // per warp: whether it did an atomic operation in this block
long long now;       // what clock() says
bool any_acquired;   // and the epoch of the block's first one
uint32_t acquired_epoch;
uint32_t order; // the last launch's

unsigned number_of(const Thread *t) { return t->number; }
uint32_t short_code(uint64_t code) { return (uint32_t)(code - (uint64_t)module[0].first); }
uint64_t long_code(uint32_t code) { return (uint64_t)module[0].first + code; }

uint32_t block_of(uint32_t a_run) { // blocks in their order; the shuffled order goes by a stride
    uint64_t i = (a_run - first_run) % blocks; // after a barrier of the grid all run again
    return (uint32_t)(order == 1 ? blocks - 1 - i : i * stride % blocks);
}

} // namespace
