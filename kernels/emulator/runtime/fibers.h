// Fibers: how the threads of a block take turns, and how a fault ends them.
#pragma once
#include "state.h"
#include <cstring>
#include <sys/mman.h>

namespace {

void settle();

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

} // namespace
