// The emulator's runtime: blocks run one after another, a block's threads as fibers in a chosen order.
//
// A fiber runs until its thread ends or meets a barrier. After a thread ends, its fiber continues with the
// next thread that has not begun, so a kernel without barriers runs on one fiber. Before each block shared
// memory is filled with 0xff: NaN as float. Kernels compiled with -fsanitize=thread call the hooks below at
// each memory access, and with parts of -fsanitize=undefined where arithmetic goes wrong. (The libraries of
// those names are not linked: the hooks are ours.) They find
//   outside     an address outside the launch's arrays, shared memory, the stack and the module,
//   misaligned  an address that is not a multiple of the size of the access,
//   unwritten   shared memory that is read before the block has written it,
//   race        two threads at the same place, one of them writing, with no barrier in between,
//   undefined   a division by zero, an overflow, a shift too far, an index outside an array of known size,
//   endless     a block that takes more steps than any is given, counted where the code branches,
// and emu_sync_* find a barrier that not all threads reach. The first fault ends the launch; the caller gets
// its kind and the code addresses, for addr2line.
//
// What happens before what: a barrier of the block ends an epoch, and everything before it is ordered before
// everything after it. Inside an epoch a warp's own barriers order its lanes. They are numbered, and each
// lane knows for every other lane the last barrier that both have passed, directly or through others
// (`clock`). For a place in memory the last write is known, and the reads since. Blocks are ordered by an
// atomic operation in the later one, if after its access the earlier one called __threadfence(): the thread
// itself, or another after a barrier of the block; and by a barrier of the grid. A block that comes to one is
// parked, with what is in its shared memory, until the others have come too. It goes on as a new run: all of
// what earlier runs did is ordered before that.
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <algorithm>
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
};
enum Flag { TELL_SAME_VALUE = 1, ALLOW_SAME_VALUE = 2, GO_ON_UNWRITTEN = 4, COOPERATIVE = 8 };
enum Fault { // as in minet/backends/emulator_faults.py
    NONE, OUTSIDE, UNWRITTEN, RACE, DIVERGENT, WARP, MISALIGNED, UNDEFINED, STOPPED, STACK, INTERRUPTED,
    ENDLESS, SAME_VALUE, REFUSED, FREED, GRID_DIVERGENT, GRID_TOO_LARGE
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

void settle();

// -- fibers ----------------------------------------------------------------------------------------------

// These report each stack switch to AddressSanitizer; without it they do nothing.
#ifndef EMU_ASAN
void __sanitizer_start_switch_fiber(void **, const void *, std::size_t) {}
void __sanitizer_finish_switch_fiber(void *, const void **, std::size_t *) {}
#endif

// Fibers switch by jumps, which unlike swapcontext make no system calls; the compiler's own, which no
// sanitizer intercepts. The functions are separate and opaque: a compiler that sees both sides optimises too
// much.
__attribute__((noipa)) void jump(void **to) { __builtin_longjmp(to, 1); }
__attribute__((noipa)) void go_on(Fiber *fiber) {
    if (fiber->begun) jump(fiber->there);
    fiber->begun = true;
    setcontext(&fiber->context);
}
__attribute__((noipa)) void to_fiber(Fiber *fiber) {
    __sanitizer_start_switch_fiber(&scheduler_fake, fiber->stack, STACK_SIZE);
    if (!__builtin_setjmp(scheduler_there)) go_on(fiber);
    __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
}
__attribute__((noipa)) void to_scheduler() {
    if (pending.bytes) settle();
    __sanitizer_start_switch_fiber(&self->fiber->fake, scheduler_stack, scheduler_size);
    if (!__builtin_setjmp(self->fiber->there)) jump(scheduler_there);
    __sanitizer_finish_switch_fiber(self->fiber->fake, &scheduler_stack, &scheduler_size);
}

void found(Fault fault, uint32_t a, uint64_t code, Who other = {}) {
    launch->fault = fault;
    launch->who[0] = {a, block_of(run), code};
    launch->who[1] = other;
}

[[noreturn]] void fail(Fault fault, uint64_t code, Who other = {}) { // in the running thread
    found(fault, number_of(self), code, other);
    to_scheduler();
    abort(); // a failed fiber is never resumed
}

// The write has been done by now: has it changed what the other thread had written?
void settle() {
    Pending one = pending;
    pending.bytes = 0;
    if (launch->fault) return;
    bool same = !one.read && !memcmp(one.at, one.before, one.bytes);
    if (same && launch->flags & ALLOW_SAME_VALUE) return;
    launch->address = one.at, launch->bytes = one.bytes, launch->writes = !one.read;
    fail(same ? SAME_VALUE : RACE, one.code, {one.other, block_of(one.other_run), one.other_code});
}

void begin(Thread *t) {
    self = t, emu_now.thread = t->index, t->status = RUNNING;
}

Thread *next_fresh() {
    while (begun < sequence.size()) {
        Thread *t = &threads[sequence[begun++]];
        if (t->status == FRESH) return t;
    }
    return nullptr;
}

void work() { // a fiber's endless loop over threads that have not begun
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
    for (;;) {
        Fiber *fiber = self->fiber;
        body(launch->args);
        if (pending.bytes) settle();
        self->status = DONE;
        if (Thread *t = next_fresh()) {
            self->fiber = nullptr, t->fiber = fiber;
            begin(t);
            continue;
        }
        idle.push_back(fiber);
        to_scheduler();
    }
}

Fiber *new_fiber() {
    Fiber *fiber = (Fiber *)calloc(1, sizeof(Fiber));
    if (!fiber) abort();
    fiber->stack = (char *)mmap(nullptr, STACK_SIZE, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fiber->stack == MAP_FAILED) abort();
#ifdef EMU_ASAN
    __asan_unpoison_memory_region(fiber->stack, STACK_SIZE); // it may be poisoned from earlier use
#endif
    mprotect(fiber->stack, 4096, PROT_NONE);
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK_SIZE;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, work, 0);
    all_fibers.push_back(fiber);
    return fiber;
}

void resume(Thread *t) {
    if (!t->fiber) {
        if (idle.empty()) idle.push_back(new_fiber());
        t->fiber = idle.back(), idle.pop_back();
    }
    Fiber *fiber = t->fiber;
    begin(t);
    to_fiber(fiber);
    while (pausing && !launch->fault) {
        pausing = false;
        if (launch->interrupted && launch->interrupted()) found(INTERRUPTED, 0, 0);
        else to_fiber(fiber);
    }
}

// -- barriers --------------------------------------------------------------------------------------------

bool release_warps() { // lanes that wait for one another and have all arrived
    bool any = false;
    for (unsigned w = 0; w < events.size() && !launch->fault; w++) {
        unsigned count = (unsigned)threads.size() - 32 * w, waiting = 0, there = 0;
        Thread *warp = &threads[32 * w];
        count = count < 32 ? count : 32;
        for (unsigned lane = 0; lane < count; lane++) {
            waiting |= (unsigned)(warp[lane].status == AT_WARP && warp[lane].op != ACTIVE) << lane;
            there |= (unsigned)(warp[lane].status != DONE) << lane; // ended lanes are not waited for
        }
        while (waiting && !launch->fault) {
            Thread *one = warp + __builtin_ctz(waiting);
            unsigned group = one->mask & there;
            bool together = (group & waiting) == group;
            for (unsigned lane = 0; lane < count && together; lane++)
                if (group >> lane & 1) {
                    together = warp[lane].mask == one->mask;
                    const Thread &other = warp[lane];
                    if (together && other.op != one->op)
                        found(WARP, number_of(one), one->code, {other.number, block_of(run), other.code});
                }
            waiting &= ~(together ? group : 1u << (one - warp));
            if (!together) continue;
            any = true;
            uint32_t joined[32] = {};
            events[w]++;
            for (unsigned lane = 0; lane < count; lane++)
                for (unsigned i = 0; i < 32 && group >> lane & 1; i++)
                    if (warp[lane].clock[i] > joined[i]) joined[i] = warp[lane].clock[i];
            for (unsigned lane = 0; lane < count; lane++)
                if (group >> lane & 1) joined[lane] = events[w];
            for (unsigned lane = 0; lane < count; lane++)
                if (group >> lane & 1) {
                    std::memcpy(warp[lane].clock, joined, sizeof joined);
                    warp[lane].status = RUNNING, warp[lane].group = group;
                    warp[lane].brought = warp[lane].value;
                }
        }
    }
    return any;
}

bool release_active() { // lanes at one place in the code that have met there; asked when no other thread can go on
    bool any = false;
    for (unsigned w = 0; w < events.size(); w++) {
        Thread *first = nullptr, *last = &threads[std::min<std::size_t>(32 * w + 32, threads.size()) - 1];
        unsigned group = 0;
        for (Thread *t = &threads[32 * w]; t <= last; t++) {
            if (t->status != AT_WARP || t->op != ACTIVE) continue;
            if (!first) first = t;
            if (t->code == first->code) group |= 1u << t->number % 32;
        }
        for (Thread *t = &threads[32 * w]; t <= last; t++)
            if (group >> t->number % 32 & 1) t->status = RUNNING, t->group = group, any = true;
    }
    return any;
}

// Not memcpy: AddressSanitizer has guards between the arrays.
__attribute__((no_sanitize("address"))) void copy_shared(volatile char *to, const volatile char *from, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes; i++) to[i] = from[i];
}

void park() {
    parked.push_back({});
    Parked &one = parked.back();
    std::swap(one.threads, threads), one.steps = steps, one.run = run;
    for (std::size_t i = 0; i < used; i++) {
        const Memory &m = memories[i];
        if (!m.shared) continue;
        std::size_t at = one.shared.size();
        one.shared.resize(at + m.bytes);
        copy_shared(one.shared.data() + at, m.start, m.bytes);
        for (uint64_t k = 0; EMU_CHECKED && k < m.bytes; k++) one.written.push_back(m.places[k].write_run == run);
    }
}

void unpark(Parked &one) {
    std::swap(one.threads, threads), steps = one.steps;
    std::size_t at = 0;
    for (std::size_t i = 0; i < used; i++) {
        const Memory &m = memories[i];
        if (!m.shared) continue;
        copy_shared(m.start, one.shared.data() + at, m.bytes);
        for (uint64_t k = 0; EMU_CHECKED && k < m.bytes; k++) {
            m.places[k] = {}; // a write of epoch 0, before all that follows
            if (one.written[at + k]) m.places[k].write_run = run;
        }
        at += m.bytes;
    }
    for (Thread &t : threads) t.status = RUNNING, t.fences = 0;
    begun = (unsigned)threads.size(), epoch = 1;
}

void new_block() {
    auto [bx, by, bz] = launch->block;
    threads.resize(sequence.size());
    for (unsigned i = 0; i < threads.size(); i++) {
        Thread &t = threads[i];
        t.number = i, t.index = {i % bx, i / bx % by, i / bx / by};
        t.status = FRESH, t.fiber = nullptr, t.batch = t.fences = 0, t.copies.clear();
    }
    begun = epoch = 0, steps = 0;
}

// Whether the b-th block has done as those before it: all have come to one barrier of the grid, or all have ended.
void compare_blocks(uint64_t b, bool at_grid) {
    if (parked.empty()) return;
    const Parked &first = parked[0];
    const Thread &one = first.threads[0];
    Who other = {0, block_of(run), 1}; // this block has ended
    if (at_grid && parked.size() == b + 1) {
        const Thread &now = parked[b].threads[0];
        if (now.code == one.code || now.line == one.line) return;
        other.code = now.code;
    } else if (at_grid) other.block = block_of(run - 1);
    found(GRID_DIVERGENT, 0, one.code, other);
    launch->who[0].block = block_of(first.run);
}

bool run_block() { // until it has ended; true: all its threads have come to a barrier of the grid
    any_acquired = false;
    acquired.assign(events.size(), false);
    emu_now.block.x = block_of(run) % emu_grid.x;
    emu_now.block.y = block_of(run) / emu_grid.x % emu_grid.y;
    emu_now.block.z = block_of(run) / emu_grid.x / emu_grid.y;
    for (;;) {
        for (unsigned i : sequence) {
            Thread *t = &threads[i];
            if (t->status == FRESH || t->status == RUNNING) resume(t);
            if (launch->fault) return false;
        }
        unsigned done = 0, waiting = 0;
        Thread *first = nullptr, *ended = nullptr, *in_warp = nullptr;
        for (Thread &t : threads) {
            if (t.status == DONE) done++, ended = &t;
            if (t.status == AT_WARP) in_warp = in_warp ? in_warp : &t;
            if (t.status != AT_BLOCK && t.status != AT_GRID) continue;
            waiting++, first = first ? first : &t;
            // One barrier may be at several places in the code, if the compiler copied it.
            if (first->status == t.status && (first->code == t.code || first->line == t.line)) continue;
            found(DIVERGENT, number_of(first), first->code, {number_of(&t), block_of(run), t.code});
            return false;
        }
        if (done == threads.size()) return false;
        if (release_warps()) continue;
        if (launch->fault) return false;
        if (release_active()) continue;
        if (waiting == threads.size()) {
            if (first->status == AT_GRID && blocks > 1) return true;
            epoch++, votes = 0;
            for (Thread &t : threads) votes += t.value, t.status = RUNNING;
            continue;
        }
        // Some thread waits for what will not come.
        Thread *stuck = first ? first : in_warp, *other = first && in_warp ? in_warp : ended;
        if (!other)
            for (Thread &t : threads)
                if (t.status == AT_WARP && t.mask != stuck->mask) other = &t;
        Who who = {};
        if (other) who = {number_of(other), block_of(run), other == ended ? 1 : other->code};
        found(first ? DIVERGENT : WARP, number_of(stuck), stuck->code, who);
        return false;
    }
}

void order_threads() {
    unsigned n = (unsigned)sequence.size();
    uint64_t state = 0x9E3779B97F4A7C15ull + block_of(run);
    for (unsigned i = 0; i < n; i++) sequence[i] = launch->order == 1 ? n - 1 - i : i;
    for (unsigned i = n; launch->order == 2 && i > 1; i--) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        unsigned j = (unsigned)((state >> 33) % i), swap = sequence[i - 1];
        sequence[i - 1] = sequence[j], sequence[j] = swap;
    }
}

// Not memset: AddressSanitizer has guards between the arrays.
__attribute__((no_sanitize("address"))) void poison(char *from, std::size_t bytes) {
    for (volatile char *at = from; at < from + bytes; at++) *at = (char)(0xff ^ launch->fill);
}

// -- what the hooks do with an access ----------------------------------------------------------------

// Whether an earlier block's access is ordered before what `self` does now. `fence` counts the fences that its thread
// had called before; of a read it is not known, and any fence of the block will do.
bool fenced(uint32_t a_run, uint32_t when, uint32_t stamp, uint32_t who, int64_t fence) {
    if (!any_acquired || (epoch == acquired_epoch && !acquired[number_of(self) / 32])) return false;
    if (a_run - since_grid >= fences.size() || fences[a_run - since_grid].calls.empty()) return false;
    const Fences &of = fences[a_run - since_grid];
    return fence < 0 || of.epoch > when || of.calls[who] != fence || of.stamps[who / 32] > stamp;
}

// Whether nothing orders a thread's earlier access before what `self` does now.
bool unordered(uint32_t a_run, uint32_t when, uint32_t stamp, uint32_t who, int64_t fence = -1) {
    if (a_run != run) return !fenced(a_run, when, stamp, who, fence);
    uint32_t me = number_of(self);
    if (who == me || when != epoch) return false;
    return who / 32 != me / 32 || self->clock[who % 32] <= stamp;
}

[[noreturn]] void race(uint64_t code, uint32_t who, uint32_t a_run, uint32_t other_code) {
    fail(RACE, code, {who, block_of(a_run), long_code(other_code)});
}

void note_read(Place &p, uint32_t since, uint64_t code) {
    uint32_t me = number_of(self), now = events[me / 32];
    if (p.read_run < since) p.runs = p.warps = false, p.lanes = 0;
    else if (p.read_run != run) {
        p.runs = true, p.warps = false, p.lanes = 0;
        p.other = p.reader, p.other_run = p.read_run, p.other_code = p.read_code;
    } else if (p.read_epoch != epoch) p.warps = false, p.lanes = 0;
    else if (p.reader / 32 != me / 32) {
        p.warps = true;
        if (!p.runs) p.other = p.reader, p.other_run = run, p.other_code = p.read_code;
    } else if (p.read_stamp != now) // lanes ordered before this read are also before what follows it
        for (unsigned lane = 0; lane < 32; lane++)
            if (p.lanes >> lane & 1 && self->clock[lane] > p.read_stamp) p.lanes &= ~(1u << lane);
    p.lanes |= 1u << me % 32;
    p.reader = (uint16_t)me, p.read_run = run, p.read_epoch = epoch, p.read_stamp = now;
    p.read_code = short_code(code);
}

void touch(Place &p, uint32_t since, Kind kind, uint64_t code) { // whatever is older than `since` is ignored
    bool counts = p.write_run >= since && !(kind == ATOMIC && p.atomic);
    if (counts && unordered(p.write_run, p.write_epoch, p.write_stamp, p.writer, p.write_fences)) {
        bool later = launch->flags & TELL_SAME_VALUE && launch->bytes <= 16;
        if (!later || kind != (p.atomic ? READ : WRITE)) race(code, p.writer, p.write_run, p.write_code);
        if (!pending.bytes) {
            uint64_t other_code = long_code(p.write_code);
            pending = {launch->address, launch->bytes, {}, code, other_code, p.writer, p.write_run, p.atomic};
            memcpy(pending.before, pending.at, pending.bytes);
        }
    }
    if (kind == READ) return note_read(p, since, code);
    uint32_t me = number_of(self);
    if (p.read_run >= since) {
        if (p.runs && unordered(p.other_run, 0, 0, p.other)) race(code, p.other, p.other_run, p.other_code);
        bool now = p.read_run == run && p.read_epoch == epoch;
        if (p.read_run != run ? unordered(p.read_run, 0, 0, 0) : now && p.reader / 32 != me / 32)
            race(code, p.reader, p.read_run, p.read_code);
        if (now) {
            if (p.warps) race(code, p.other, p.other_run, p.other_code);
            for (unsigned lane = 0; lane < 32; lane++)
                if (p.lanes >> lane & 1 && lane != me % 32 && self->clock[lane] <= p.read_stamp)
                    race(code, me / 32 * 32 + lane, run, p.read_code);
        }
        p.read_run = 0; // whatever is ordered after this write is also after those reads
    }
    p.writer = (uint16_t)me, p.write_run = run, p.write_epoch = epoch, p.write_stamp = events[me / 32];
    p.write_code = short_code(code), p.atomic = kind == ATOMIC, p.write_fences = self->fences;
}

bool holds(const Memory &m, char *at, unsigned bytes) { return at >= m.start && at + bytes <= m.start + m.bytes; }

// Whether it is where only variables that the launch knows may be accessed.
bool inside_own(char *at) {
    if (launch->dynamic && at >= launch->dynamic && at < launch->dynamic + MOST_DYNAMIC) return true;
    return at >= __start_emu_device && at < __stop_emu_device;
}

void access(char *at, unsigned bytes, Kind kind, uint64_t code, bool reads) {
    if (!launch || launch->fault) return;
    char *stack = self->fiber->stack;
    bool own = at >= stack && at < stack + STACK_SIZE;
    if (pending.bytes && pending.read && kind == ATOMIC && at == pending.at) pending.bytes = 0;
    if (pending.bytes && !(pending.read && own)) settle();
    if (own) return;
    launch->address = at, launch->bytes = bytes, launch->writes = kind != READ;
    std::size_t m = last;
    if (m >= used || !holds(memories[m], at, bytes))
        for (m = 0; m < used && !holds(memories[m], at, bytes);) m++;
    if (m == used) {
        for (const Memory &m : memories)
            if (m.freed && at >= m.start && at < m.start + m.freed) fail(FREED, code);
        if (!inside_own(at))
            for (auto [start, end] : module)
                if (at >= start && at + bytes <= end) return;
        fail(OUTSIDE, code);
    }
    if (kind == ATOMIC && (uint64_t)at % bytes) fail(MISALIGNED, code); // the compiler checks other accesses
    last = m;
    Memory &memory = memories[m];
    for (auto [start, end] : guards)
        if (at >= start && at < end) return;
    uint64_t begin = (at - memory.start) / memory.unit, end = (at - memory.start + bytes - 1) / memory.unit;
    for (uint64_t i = begin; i <= end; i++) {
        if (memory.shared && reads && memory.places[i].write_run != run) {
            if (!(launch->flags & GO_ON_UNWRITTEN)) fail(UNWRITTEN, code);
            if (!launch->unwritten_bytes)
                launch->unwritten_bytes = bytes, launch->unwritten_at = at,
                launch->unwritten = {number_of(self), block_of(run), code};
        }
        touch(memory.places[i], memory.shared ? run : since_grid, kind, code);
    }
}

// -- without hooks -----------------------------------------------------------------------------------------

#if EMU_CHECKED || defined EMU_ASAN
struct Signals {};
#else
// A kernel that is not watched may run into memory that does not exist. That ends the launch, not the process.
void caught(int number, siginfo_t *info, void *context) {
    const mcontext_t &cpu = ((ucontext_t *)context)->uc_mcontext;
#ifdef __aarch64__
    char *code = (char *)cpu.pc, *top = (char *)cpu.sp;
    bool writes = false; // not told
#else
    char *code = (char *)cpu.gregs[REG_RIP], *top = (char *)cpu.gregs[REG_RSP];
    bool writes = cpu.gregs[REG_ERR] & 2;
#endif
    char *stack = self && self->fiber ? self->fiber->stack : nullptr;
    if (launch->fault || !stack || top < stack - 4096 || top >= stack + STACK_SIZE) { // it is the runtime's
        signal(number, SIG_DFL);
        return;
    }
    char *at = info->si_code > 0 && info->si_code < 0x80 ? (char *)info->si_addr : (char *)~0ull; // or not told
    launch->address = at, launch->bytes = 0, launch->writes = writes;
    launch->what = "a division by zero, or one that overflows its type";
    bool full = at >= stack - 4096 && at < stack + 4096;
    fail(number == SIGFPE ? UNDEFINED : full ? STACK : OUTSIDE, (uint64_t)code + 1); // as after a call
}
struct Signals { // while a launch runs; before and after they are Python's
    static constexpr int numbers[] = {SIGSEGV, SIGBUS, SIGFPE};
    struct sigaction before[3];
    stack_t stack_before;
    Signals() {
        static char stack[64 << 10]; // the kernel's may be at its end
        stack_t other = {stack, 0, sizeof stack};
        sigaltstack(&other, &stack_before);
        struct sigaction action = {};
        action.sa_sigaction = caught, action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (int i = 0; i < 3; i++) sigaction(numbers[i], &action, &before[i]);
    }
    ~Signals() {
        for (int i = 0; i < 3; i++) sigaction(numbers[i], &before[i], nullptr);
        sigaltstack(&stack_before, nullptr);
    }
};
#endif

// -- a launch --------------------------------------------------------------------------------------------

void remember(char *start, uint64_t bytes, uint64_t unit, bool shared) {
    if (memories.size() == used) memories.push_back({});
    Memory &m = memories[used++];
    uint64_t size = EMU_CHECKED ? (bytes + unit - 1) / unit : 0;
    if (m.room < size) {
        free(m.places);
        m.places = (Place *)calloc(size, sizeof(Place)), m.room = size;
        if (!m.places) abort();
    }
    m.start = start, m.bytes = bytes, m.unit = unit, m.shared = shared, m.freed = 0;
}

// Finds this module's memory, and in it the block of its thread_local variables: the shared memory.
int look(dl_phdr_info *info, std::size_t, void *found) {
    auto inside = [&](const ElfW(Phdr) &part) {
        return part.p_type == PT_LOAD && (uint64_t)&look - (info->dlpi_addr + part.p_vaddr) < part.p_memsz;
    };
    bool ours = false;
    for (int i = 0; i < info->dlpi_phnum; i++) ours |= inside(info->dlpi_phdr[i]);
    if (!ours) return 0;
    module.clear();
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) &part = info->dlpi_phdr[i];
        char *start = (char *)info->dlpi_addr + part.p_vaddr;
        if (part.p_type == PT_LOAD) module.push_back({start, start + part.p_memsz});
        if (part.p_type == PT_TLS)
            *(std::pair<char *, uint64_t> *)found = {(char *)info->dlpi_tls_data, part.p_memsz};
    }
    return 1;
}

} // namespace

extern "C" {

#define HERE ((uint64_t)__builtin_return_address(0))

void emu_sync_block(unsigned long long vote, unsigned long long *sum, unsigned line) {
    self->status = AT_BLOCK, self->value = vote, self->line = line, self->code = HERE;
    to_scheduler();
    if (sum) *sum = votes;
}

// How many blocks an H100 can have at work at once, which is what a barrier of the grid demands.
unsigned most_blocks() {
    unsigned warps = (unsigned)events.size(), each = std::min(SM_THREADS / (32 * warps), SM_BLOCKS);
    uint64_t shared = 1 << 10; // the driver's own
    for (std::size_t i = 0; i < used; i++) shared += memories[i].shared ? memories[i].bytes : 0;
    return launch->flags & COOPERATIVE ? SMS * (unsigned)std::min<uint64_t>(each, SM_SHARED / shared) : 1;
}
int emu_grid_fits() { return blocks <= most_blocks(); }
void emu_sync_grid(unsigned line) {
    unsigned long long own = MOST_FIBERS / threads.size(), card = most_blocks(), most = std::min(own, card);
    if (blocks > most && blocks > 1) {
        static char what[160];
        const char *who = own < card ? "the emulator" : launch->flags & COOPERATIVE ? "an H100" : "a layer's launch";
        snprintf(what, sizeof what, "a barrier of a grid of %llu blocks: %s has at most %llu of them at work at once",
                 (unsigned long long)blocks, who, most);
        launch->what = what;
        fail(GRID_TOO_LARGE, HERE);
    }
    self->status = AT_GRID, self->value = 0, self->line = line, self->code = HERE;
    to_scheduler();
}

// Waits for the lanes of the mask; returns those that came: all except those that ended too early.
unsigned emu_sync_warp(unsigned op, unsigned mask, unsigned long long value) {
    self->status = AT_WARP, self->value = value, self->mask = mask, self->op = op, self->code = HERE;
    if (!(mask >> number_of(self) % 32 & 1)) fail(WARP, HERE);
    to_scheduler();
    return self->group;
}
// The lanes of the warp that come to this call together.
unsigned emu_sync_active() {
    self->status = AT_WARP, self->mask = 1u << number_of(self) % 32, self->op = ACTIVE, self->code = HERE;
    to_scheduler();
    return self->group;
}
unsigned long long emu_value_of(int lane) { return threads[number_of(self) / 32 * 32 + lane].brought; }
int emu_lane() { return (int)(number_of(self) % 32); }
void *emu_dynamic_shared() { return dynamic_memory.data(); }
void emu_fence() {
    fences.resize(run - since_grid + 1);
    Fences &ours = fences.back();
    ours.calls.resize(threads.size()), ours.stamps.resize(events.size());
    uint32_t me = number_of(self);
    ours.calls[me]++, ours.stamps[me / 32] = events[me / 32], ours.epoch = epoch;
    self->fences++;
}
void emu_atomic(void *at, unsigned bytes, int reads, void *code) {
    if (!any_acquired) any_acquired = true, acquired_epoch = epoch;
    acquired[number_of(self) / 32] = true;
    if (EMU_CHECKED) access((char *)at, bytes, ATOMIC, (uint64_t)code, reads);
}
// A copy that does not wait is done as late as it may be: a kernel that reads before it has waited finds what was
// there before.
void emu_copy(void *to, const void *from, unsigned bytes, unsigned zeros) {
    self->copies.push_back({(char *)to, (const char *)from, bytes, zeros, self->batch, HERE});
}
void emu_commit() { self->batch++; }
void emu_wait(unsigned left) { // until only the last `left` batches are under way
    auto at = self->copies.begin();
    for (; at != self->copies.end() && at->batch + left < self->batch; at++) {
        unsigned bytes = at->bytes - at->zeros;
        if (EMU_CHECKED) {
            launch->address = (uint64_t)at->to % at->bytes ? at->to : (char *)at->from;
            launch->bytes = at->bytes, launch->writes = launch->address == at->to;
            if ((uint64_t)launch->address % at->bytes) fail(MISALIGNED, at->code);
            if (bytes) access((char *)at->from, bytes, READ, at->code, true);
            access(at->to, at->bytes, WRITE, at->code, false);
        }
        memcpy(at->to, at->from, bytes);
        memset(at->to + bytes, 0, at->zeros);
    }
    self->copies.erase(self->copies.begin(), at);
}
void emu_stop(const char *what) {
    launch->what = what;
    fail(STOPPED, HERE);
}
void emu_refuse(const char *what) {
    launch->what = what;
    fail(REFUSED, HERE);
}
long long emu_clock() {
    static long long now;
    return now += 8;
}
int emu_printf(const char *format, ...) {
    va_list values, again;
    va_start(values, format);
    va_copy(again, values);
    int size = vsnprintf(nullptr, 0, format, again);
    std::size_t before = printed.size();
    if (size > 0 && before + size < MOST_PRINTED) {
        printed.resize(before + size + 1);
        vsnprintf(printed.data() + before, size + 1, format, values);
        printed.pop_back();
    }
    va_end(again), va_end(values);
    return size;
}
void *emu_malloc(std::size_t bytes) {
    char *start = (char *)malloc(bytes ? bytes : 1);
    if (!start || !EMU_CHECKED) return start;
    memset(start, 0xff, bytes);
    heap.push_back({start, bytes, 4});
    for (std::size_t i = 0; i < used; i++)
        if (memories[i].start == start) memories[i].freed = 0; // the host gave out the same place again
    remember(start, bytes, 4, false);
    memset(memories[used - 1].places, 0, (bytes + 3) / 4 * sizeof(Place)); // it may have been another's
    return start;
}
void emu_free(void *at) {
    if (!at) return;
    if (EMU_CHECKED) {
        auto one = heap.begin();
        while (one != heap.end() && one->start != at) ++one;
        if (one == heap.end()) {
            launch->what = "free() of what no malloc() of a kernel gave, or for the second time";
            fail(STOPPED, HERE);
        }
        heap.erase(one);
        for (std::size_t i = 0; i < used; i++)
            if (memories[i].start == at && memories[i].bytes) memories[i].freed = memories[i].bytes, memories[i].bytes = 0;
    }
    free(at);
}
void emu_assert_fail(const char *what, const char *, unsigned, const char *) {
    launch->what = what;
    fail(STOPPED, HERE);
}

int emu_run(void *what, void (*kernel)(const char *), char *start, char *stop) {
    launch = (Launch *)what, body = kernel, patience = PATIENCE, order = launch->order;
    auto [gx, gy, gz] = launch->grid;
    auto [bx, by, bz] = launch->block;
    emu_grid = {gx, gy, gz}, emu_block = {bx, by, bz}, blocks = (uint64_t)gx * gy * gz;
    std::pair<char *, uint64_t> fixed = {start, stop - start};
    dl_iterate_phdr(look, &fixed);
    guards.clear();
    for (uint32_t i = 0; i < launch->guards; i++)
        guards.push_back({fixed.first + launch->guard[2 * i], fixed.first + launch->guard[2 * i + 1]});
    if (run > 1u << 30) { // long before it wraps around
        for (Memory &m : memories) free(m.places);
        memories.clear(), run = 0;
    }
    first_run = run + 1, used = last = 0;
    for (unsigned i = 0; i < launch->arrays; i++)
        remember(launch->array[i].start, launch->array[i].bytes, launch->array[i].unit, false);
    for (const Heap &one : heap) remember(one.start, one.bytes, one.unit, false);
    char *dynamic = launch->dynamic;
    if (!dynamic) {
        dynamic_memory = List<char>(launch->dynamic_shared); // exactly this size, for AddressSanitizer
        dynamic = dynamic_memory.data();
    }
#ifdef EMU_ASAN
    else {
        __asan_unpoison_memory_region(dynamic, launch->dynamic_shared);
        __asan_poison_memory_region(dynamic + launch->dynamic_shared, MOST_DYNAMIC - launch->dynamic_shared);
    }
#endif
    remember(fixed.first, fixed.second, 1, true);
    remember(dynamic, launch->dynamic_shared, 1, true);
    launch->shared = dynamic;
    printed.clear(), pending.bytes = 0;
    sequence.resize((std::size_t)bx * by * bz), events.resize((sequence.size() + 31) / 32);
    for (stride = launch->order == 2 ? blocks * 5 / 8 | 1 : 1; stride > 1; stride -= 2) {
        uint64_t a = stride, b = blocks;
        while (b) a %= b, std::swap(a, b);
        if (a == 1) break; // so that each block comes once
    }
    List<Parked> before;
    [[maybe_unused]] Signals signals;
    do { // once, and once more for each barrier of the grid
        since_grid = run + 1, fences.clear();
        for (uint64_t b = 0; b < blocks && !launch->fault; b++) {
            run++;
            if (!b || launch->order == 2) order_threads();
            if (before.empty()) poison(fixed.first, fixed.second), poison(dynamic, launch->dynamic_shared), new_block();
            else unpark(before[b]);
            bool at_grid = run_block();
            if (launch->fault) break;
            if (at_grid) park();
            compare_blocks(b, at_grid);
        }
        std::swap(before, parked), parked.clear();
    } while (!before.empty() && !launch->fault);
    // Fibers that were stopped midway are discarded, and otherwise all but a few: a stack takes two of the mappings
    // that a process may have, and each kernel's library has fibers of its own.
    for (std::size_t kept = launch->fault ? 0 : KEPT; all_fibers.size() > kept; all_fibers.pop_back())
        munmap(all_fibers.back()->stack, STACK_SIZE), free(all_fibers.back());
    idle = all_fibers;
    for (Memory &m : memories) // large tables are not kept
        if (m.room > 1u << 20) free(m.places), m.places = nullptr, m.room = 0;
    launch->output = printed.data(), launch->output_bytes = printed.size();
    int fault = (int)launch->fault;
    launch = nullptr;
    return fault;
}

// Who wrote last to a place in an array, in the last launch; 0 if nobody did.
int emu_writer(char *at, void *answer) {
    for (std::size_t i = 0; i < used; i++) {
        const Memory &m = memories[i];
        if (!m.places || !holds(m, at, 1)) continue;
        const Place &p = m.places[(at - m.start) / m.unit];
        if (p.write_run < first_run) return 0;
        Who who = {p.writer, block_of(p.write_run), long_code(p.write_code)};
        memcpy(answer, &who, sizeof who);
        return 1;
    }
    return 0;
}

// Called at each branch of a kernel's code. Hidden, as AddressSanitizer's library has one too.
__attribute__((visibility("hidden"))) void __sanitizer_cov_trace_pc() {
    if (--patience || !launch || launch->fault) return;
    patience = PATIENCE, steps += PATIENCE;
    if (steps > launch->most_steps) fail(ENDLESS, HERE);
    pausing = true;
    to_scheduler();
}

#if EMU_CHECKED
#define HOOKS(bytes)                                                                                       \
    void __tsan_read##bytes(void *at) { access((char *)at, bytes, READ, HERE, true); }                     \
    void __tsan_write##bytes(void *at) { access((char *)at, bytes, WRITE, HERE, false); }                  \
    void __tsan_unaligned_read##bytes(void *at) { access((char *)at, bytes, READ, HERE, true); }           \
    void __tsan_unaligned_write##bytes(void *at) { access((char *)at, bytes, WRITE, HERE, false); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void *at, unsigned long n) { access((char *)at, (unsigned)n, READ, HERE, true); }
void __tsan_write_range(void *at, unsigned long n) { access((char *)at, (unsigned)n, WRITE, HERE, false); }
void __tsan_vptr_read(void *at) { access((char *)at, 8, READ, HERE, true); } // of a class with virtual functions
void __tsan_vptr_update(void *at, void *) { access((char *)at, 8, WRITE, HERE, false); }
void __tsan_init() {}
void __tsan_func_entry(void *) {
    if (launch && (char *)__builtin_frame_address(0) - self->fiber->stack < (long)MARGIN) fail(STACK, HERE);
}
void __tsan_func_exit() {}

struct Pointed { // the compiler's description of a pointer's use
    void *file;
    unsigned line, column;
    void *type;
    unsigned char log_alignment, use; // use: 1 is a write
};
void __ubsan_handle_type_mismatch_v1(Pointed *of, char *at) {
    launch->address = at, launch->bytes = 1u << of->log_alignment, launch->writes = of->use == 1;
    fail(MISALIGNED, HERE);
}
#define UNDEFINED_HOOK(name, said)                                                                         \
    void __ubsan_handle_##name(void *, void *, void *) {                                                   \
        launch->what = said;                                                                               \
        fail(UNDEFINED, HERE);                                                                             \
    }
UNDEFINED_HOOK(add_overflow, "a sum that overflows its type")
UNDEFINED_HOOK(sub_overflow, "a difference that overflows its type")
UNDEFINED_HOOK(mul_overflow, "a product that overflows its type")
UNDEFINED_HOOK(negate_overflow, "a negation that overflows its type")
UNDEFINED_HOOK(divrem_overflow, "a division by zero, or one that overflows its type")
UNDEFINED_HOOK(shift_out_of_bounds, "a shift by more bits than the type has, or by a negative number")
UNDEFINED_HOOK(out_of_bounds, "an index outside its array")
#endif
}
