// What the compiler calls at each access of a watched kernel, and where its arithmetic goes wrong.
#pragma once
#include "calls.h"

#if EMU_CHECKED
extern "C" {

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

}
#endif
