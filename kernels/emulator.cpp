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
// (`clock`). For a place in memory the last write is known, and the reads since. Blocks are ordered only by
// an atomic operation in the later one, if the earlier one called __threadfence().
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#endif

struct uint3 { unsigned x, y, z; };
struct EmuThread { uint3 thread, block; };
extern "C" { // constants for the kernels: within a thread they never change
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
};
enum Fault { // as in minet/backends/emulator_faults.py
    NONE, OUTSIDE, UNWRITTEN, RACE, DIVERGENT, WARP, MISALIGNED, UNDEFINED, STOPPED, STACK, INTERRUPTED,
    ENDLESS
};
enum Status { FRESH, RUNNING, AT_BLOCK, AT_WARP, DONE };
enum Kind { READ, WRITE, ATOMIC };

constexpr std::size_t STACK_SIZE = 1 << 20, MARGIN = 64 << 10; // a GPU gives a thread up to 512 KiB
constexpr std::size_t KEPT = 32; // fibers, from launch to launch
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
    std::vector<Copy> copies; // in their order
    unsigned batch;           // copies committed so far, as batches
};
struct Place { // what is known about an array element, or a byte of shared memory
    uint32_t write_run, write_epoch, write_stamp, write_code; // run: which block
    uint32_t read_run, read_epoch, read_stamp, read_code;
    uint32_t lanes; // of the reader's warp that have read since they were last ordered
    uint32_t other_run, other_code;
    uint16_t writer, reader, other; // other: a reader in another warp or block
    bool atomic, warps, runs;       // last written by an atomic; read by several warps; in several blocks
};
struct Memory { // an array, or shared memory
    char *start;
    uint64_t bytes, unit;
    bool shared;
    Place *places;
    uint64_t room;
};

Launch *launch;
void (*body)(const char *);
std::vector<Thread> threads;
std::vector<uint32_t> events; // barriers so far, per warp
std::vector<unsigned> sequence;
std::vector<Fiber *> idle, all_fibers;
std::vector<Memory> memories;
std::size_t used, last; // memories of this launch, and where the last access was
std::vector<char> dynamic_memory;
std::vector<std::pair<char *, char *>> module;
std::vector<bool> fenced; // whether a run, counted from first_run, called __threadfence()
void *scheduler_there[5];
void *scheduler_fake;
const void *scheduler_stack;
std::size_t scheduler_size;
Thread *self;
uint32_t run, first_run, epoch, patience; // run: blocks run so far, over all launches
unsigned begun;
uint64_t blocks, stride, votes, steps; // steps: of this block
bool pausing, acquired;

unsigned number_of(const Thread *t) { return t->number; }
uint32_t short_code(uint64_t code) { return (uint32_t)(code - (uint64_t)module[0].first); }
uint64_t long_code(uint32_t code) { return (uint64_t)module[0].first + code; }

uint32_t block_of(uint32_t a_run) { // blocks in their order; the shuffled order goes by a stride
    uint64_t i = a_run - first_run;
    return (uint32_t)(launch->order == 1 ? blocks - 1 - i : i * stride % blocks);
}

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
    Fiber *fiber = new Fiber();
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
            waiting |= (unsigned)(warp[lane].status == AT_WARP) << lane;
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

void run_block() {
    begun = epoch = 0, acquired = false, steps = 0;
    emu_now.block.x = block_of(run) % emu_grid.x;
    emu_now.block.y = block_of(run) / emu_grid.x % emu_grid.y;
    emu_now.block.z = block_of(run) / emu_grid.x / emu_grid.y;
    for (Thread &t : threads) t.status = FRESH, t.fiber = nullptr, t.batch = 0, t.copies.clear();
    for (;;) {
        for (unsigned i : sequence) {
            Thread *t = &threads[i];
            if (t->status == FRESH || t->status == RUNNING) resume(t);
            if (launch->fault) return;
        }
        unsigned done = 0, waiting = 0;
        Thread *first = nullptr, *ended = nullptr, *in_warp = nullptr;
        for (Thread &t : threads) {
            if (t.status == DONE) done++, ended = &t;
            if (t.status == AT_WARP) in_warp = in_warp ? in_warp : &t;
            if (t.status != AT_BLOCK) continue;
            waiting++, first = first ? first : &t;
            // One barrier may be at several places in the code, if the compiler copied it.
            if (first->code != t.code && first->line != t.line)
                return found(DIVERGENT, number_of(first), first->code, {number_of(&t), block_of(run), t.code});
        }
        if (done == threads.size()) return;
        if (release_warps()) continue;
        if (launch->fault) return;
        if (waiting == threads.size()) {
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
        return found(first ? DIVERGENT : WARP, number_of(stuck), stuck->code, who);
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
    for (volatile char *at = from; at < from + bytes; at++) *at = (char)0xff;
}

// -- what the hooks do with an access ----------------------------------------------------------------

// Whether nothing orders a thread's earlier access before what `self` does now.
bool unordered(uint32_t a_run, uint32_t when, uint32_t stamp, uint32_t who) {
    if (a_run != run) return !(acquired && a_run - first_run < fenced.size() && fenced[a_run - first_run]);
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
    if (counts && unordered(p.write_run, p.write_epoch, p.write_stamp, p.writer))
        race(code, p.writer, p.write_run, p.write_code);
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
    p.write_code = short_code(code), p.atomic = kind == ATOMIC;
}

bool holds(const Memory &m, char *at, unsigned bytes) { return at >= m.start && at + bytes <= m.start + m.bytes; }

void access(char *at, unsigned bytes, Kind kind, uint64_t code, bool reads) {
    if (!launch || launch->fault) return;
    char *stack = self->fiber->stack;
    if (at >= stack && at < stack + STACK_SIZE) return;
    launch->address = at, launch->bytes = bytes, launch->writes = kind != READ;
    std::size_t m = last;
    if (m >= used || !holds(memories[m], at, bytes))
        for (m = 0; m < used && !holds(memories[m], at, bytes);) m++;
    if (m == used) {
        for (auto [start, end] : module)
            if (at >= start && at + bytes <= end) return;
        fail(OUTSIDE, code);
    }
    if (kind == ATOMIC && (uint64_t)at % bytes) fail(MISALIGNED, code); // the compiler checks other accesses
    last = m;
    Memory &memory = memories[m];
    uint64_t begin = (at - memory.start) / memory.unit, end = (at - memory.start + bytes - 1) / memory.unit;
    for (uint64_t i = begin; i <= end; i++) {
        if (memory.shared && reads && memory.places[i].write_run != run) fail(UNWRITTEN, code);
        touch(memory.places[i], memory.shared ? run : first_run, kind, code);
    }
}

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
    m.start = start, m.bytes = bytes, m.unit = unit, m.shared = shared;
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

// Waits for the lanes of the mask; returns those that came: all except those that ended too early.
unsigned emu_sync_warp(unsigned op, unsigned mask, unsigned long long value) {
    self->status = AT_WARP, self->value = value, self->mask = mask, self->op = op, self->code = HERE;
    if (!(mask >> number_of(self) % 32 & 1)) fail(WARP, HERE);
    to_scheduler();
    return self->group;
}
unsigned long long emu_value_of(int lane) { return threads[number_of(self) / 32 * 32 + lane].brought; }
int emu_lane() { return (int)(number_of(self) % 32); }
void *emu_dynamic_shared() { return dynamic_memory.data(); }
void emu_fence() {
    fenced.resize(run - first_run + 1);
    fenced.back() = true;
}
void emu_atomic(void *at, unsigned bytes, int reads, void *code) {
    acquired = true;
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
void emu_assert_fail(const char *what, const char *, unsigned, const char *) {
    launch->what = what;
    fail(STOPPED, HERE);
}

int emu_run(void *what, void (*kernel)(const char *), char *start, char *stop) {
    launch = (Launch *)what, body = kernel, patience = PATIENCE;
    auto [gx, gy, gz] = launch->grid;
    auto [bx, by, bz] = launch->block;
    emu_grid = {gx, gy, gz}, emu_block = {bx, by, bz}, blocks = (uint64_t)gx * gy * gz;
    std::pair<char *, uint64_t> fixed = {start, stop - start};
    dl_iterate_phdr(look, &fixed);
    if (run > 1u << 30) { // long before it wraps around
        for (Memory &m : memories) free(m.places);
        memories.clear(), run = 0;
    }
    first_run = run + 1, used = last = 0;
    for (unsigned i = 0; i < launch->arrays; i++)
        remember(launch->array[i].start, launch->array[i].bytes, launch->array[i].unit, false);
    dynamic_memory = std::vector<char>(launch->dynamic_shared); // exactly this size, for AddressSanitizer
    remember(fixed.first, fixed.second, 1, true);
    remember(dynamic_memory.data(), launch->dynamic_shared, 1, true);
    threads.resize((std::size_t)bx * by * bz), events.resize((threads.size() + 31) / 32);
    sequence.resize(threads.size()), fenced.clear();
    for (unsigned i = 0; i < threads.size(); i++)
        threads[i].number = i, threads[i].index = {i % bx, i / bx % by, i / bx / by};
    for (stride = launch->order == 2 ? blocks * 5 / 8 | 1 : 1; stride > 1; stride -= 2) {
        uint64_t a = stride, b = blocks;
        while (b) a %= b, std::swap(a, b);
        if (a == 1) break; // so that each block comes once
    }
    for (uint64_t b = 0; b < blocks && !launch->fault; b++) {
        run++;
        if (!b || launch->order == 2) order_threads();
        poison(fixed.first, fixed.second), poison(dynamic_memory.data(), launch->dynamic_shared);
        run_block();
    }
    // Fibers that were stopped midway are discarded, and otherwise all but a few: a stack takes two of the mappings
    // that a process may have, and each kernel's library has fibers of its own.
    for (std::size_t kept = launch->fault ? 0 : KEPT; all_fibers.size() > kept; all_fibers.pop_back())
        munmap(all_fibers.back()->stack, STACK_SIZE), delete all_fibers.back();
    idle = all_fibers;
    for (Memory &m : memories) // large tables are not kept
        if (m.room > 1u << 20) free(m.places), m.places = nullptr, m.room = 0;
    int fault = (int)launch->fault;
    launch = nullptr;
    return fault;
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
