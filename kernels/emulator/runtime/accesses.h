// Accesses: what has been done to each place in memory, and whether the next access is a fault.
//
// What happens before what: a barrier of the block ends an epoch, and everything before it is ordered before
// everything after it. Inside an epoch a warp's own barriers order its lanes. They are numbered, and each
// lane knows for every other lane the last barrier that both have passed, directly or through others
// (`clock`). For a place in memory the last write is known, and the reads since. Blocks are ordered by an
// atomic operation in the later one, if after its access the earlier one called __threadfence(): the thread
// itself, or another after a barrier of the block; and by a barrier of the grid. A block that comes to one is
// parked, with what is in its shared memory, until the others have come too. It goes on as a new run: all of
// what earlier runs did is ordered before that.
#pragma once
#include "fibers.h"

namespace {

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

} // namespace
