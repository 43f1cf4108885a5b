// The emulator's runtime: blocks run one after another, a block's threads as fibers in a chosen order.
//
// A fiber runs until its thread ends or meets a barrier. After a thread ends, its fiber continues with the
// next thread that has not begun, so a kernel without barriers runs on one fiber. Before each block shared
// memory is filled with 0xff: NaN as float. Kernels compiled with -fsanitize=thread call runtime/hooks.h at
// each memory access, and with parts of -fsanitize=undefined where arithmetic goes wrong. (The libraries of
// those names are not linked: the hooks are ours.) They find
//   outside     an address outside the launch's arrays, shared memory, the stack and the module,
//   misaligned  an address that is not a multiple of the size of the access,
//   unwritten   shared memory that is read before the block has written it,
//   race        two threads at the same place, one of them writing, with no barrier in between,
//   undefined   a division by zero, an overflow, a shift too far, an index outside an array of known size,
//   endless     a block that takes more steps than any is given, counted where the code branches,
// and emu_sync_* of runtime/calls.h find a barrier that not all threads reach. The first fault ends the launch;
// the caller gets its kind and the code addresses, for addr2line.
#include "runtime/accesses.h"
#include "runtime/blocks.h"
#include "runtime/calls.h"
#include "runtime/hooks.h"
#include "runtime/signals.h"
#include <link.h>

namespace {

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
    printed.clear(), pending.bytes = 0, now = 0;
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

}
