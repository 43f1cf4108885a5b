// cg::reduce, cg::inclusive_scan and cg::exclusive_scan, which combine values in the order of the ranks.
#pragma once
#pragma GCC system_header
#include "../cooperative_groups.h"

namespace cooperative_groups {

#define EMU_OPERATION(name, expression)                                                                    \
    template <class T = void> struct name {                                                                \
        template <class U> EMU_INLINE U operator()(U a, U b) const { return expression; }                  \
    };
EMU_OPERATION(plus, a + b)
EMU_OPERATION(less, b < a ? b : a)
EMU_OPERATION(greater, b > a ? b : a)
EMU_OPERATION(bit_and, a &b)
EMU_OPERATION(bit_or, a | b)
EMU_OPERATION(bit_xor, a ^ b)
#undef EMU_OPERATION

template <class T, class F> EMU_INLINE T reduce(const EmuLanes &group, T value, F &&combine) {
    return emu_reduce(EMU_ADD, group.mask, value, combine);
}
template <class T, class F>
EMU_INLINE T emu_scan(const EmuLanes &group, T value, F &combine, unsigned before, bool *any) {
    unsigned there = emu_sync_warp(EMU_LEAST, group.mask, emu_bits(value)) & before;
    T sum = value;
    *any = there != 0;
    for (bool first = true; there; there &= there - 1, first = false) {
        T one = emu_value<T>(emu_value_of(__builtin_ctz(there)));
        sum = first ? one : combine(sum, one);
    }
    return sum;
}
template <class T, class F> EMU_INLINE T inclusive_scan(const EmuLanes &group, T value, F &&combine) {
    bool any;
    return emu_scan(group, value, combine, (2u << emu_lane()) - 1, &any);
}
template <class T> EMU_INLINE T inclusive_scan(const EmuLanes &group, T value) {
    return inclusive_scan(group, value, plus<T>());
}
template <class T, class F> EMU_INLINE T exclusive_scan(const EmuLanes &group, T value, F &&combine) {
    bool any;
    T sum = emu_scan(group, value, combine, (1u << emu_lane()) - 1, &any);
    return any ? sum : T();
}
template <class T> EMU_INLINE T exclusive_scan(const EmuLanes &group, T value) {
    return exclusive_scan(group, value, plus<T>());
}

} // namespace cooperative_groups
