// Blocks: the order of their threads, and the barriers of warps, blocks and the grid.
#pragma once
#include "fibers.h"
#include <algorithm>

namespace {

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
        if (first && in_warp) launch->what = ": one waits in a warp operation for another";
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

} // namespace
