// What kernels call: emulator.h and emulator_cuda.h declare it.
#pragma once
#include "accesses.h"
#include "blocks.h"
#include <cstdarg>
#include <cstdio>

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
// What a shuffle reads of a lane that is not there: noise. Whether a result depends on it shows with another noise.
unsigned long long emu_absent() {
    if (!launch->absent.code) launch->absent = {number_of(self), block_of(run), HERE};
    return ~0ull ^ 0x0101010101010101ull * launch->fill;
}
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
void emu_release(void *at, void *code) {
    if (!at) return;
    if (EMU_CHECKED) {
        auto one = heap.begin();
        while (one != heap.end() && one->start != at) ++one;
        if (one == heap.end()) {
            launch->what = "free() of what no malloc() of a kernel gave, or for the second time";
            fail(STOPPED, (uint64_t)code);
        }
        heap.erase(one);
        for (std::size_t i = 0; i < used; i++)
            if (memories[i].start == at && memories[i].bytes) memories[i].freed = memories[i].bytes, memories[i].bytes = 0;
    }
    free(at);
}
void emu_free(void *at) { emu_release(at, __builtin_return_address(0)); }
void emu_assert_fail(const char *what, const char *, unsigned, const char *) {
    launch->what = what;
    fail(STOPPED, HERE);
}

// Called at each branch of a kernel's code. Hidden, as AddressSanitizer's library has one too.
__attribute__((visibility("hidden"))) void __sanitizer_cov_trace_pc() {
    if (--patience || !launch || launch->fault) return;
    patience = PATIENCE, steps += PATIENCE;
    if (steps > launch->most_steps) fail(ENDLESS, HERE);
    pausing = true;
    to_scheduler();
}

}
