// Signals. A kernel that is not watched may run into memory that does not exist: that ends the launch, not the
// process.
#pragma once
#include "fibers.h"
#include <signal.h>

namespace {

#if EMU_CHECKED || defined EMU_ASAN
struct Signals {};
#else
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

} // namespace
