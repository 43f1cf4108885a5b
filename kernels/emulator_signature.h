// What the compiler knows of a kernel's parameters and of a file's variables, for minet/emulator to read; part
// of emulator_cuda.h. minet/emulator/description.py has the same structures.
#pragma once

struct __half;
struct __nv_bfloat16;
enum EmuKind { EMU_OTHER, EMU_BOOL, EMU_SIGNED, EMU_UNSIGNED, EMU_FLOAT, EMU_HALF, EMU_BFLOAT, EMU_POINTER, EMU_VOID };
struct EmuType { // a vector, such as float4, has `lanes` numbers of the kind
    unsigned size, align, kind, lanes, constant;
    const char *name;
};
struct EmuParameter { // its type, what that points to, what that points to
    EmuType chain[3];
};
struct EmuGlobal {
    const char *name;
    void *at;
    unsigned long long size;
    EmuType element;
    unsigned rank;
    unsigned long long extents[8];
};

template <class T> constexpr unsigned emu_kind() {
    typedef std::remove_cv_t<T> U;
    if (std::is_void<U>::value) return EMU_VOID;
    if (std::is_pointer<U>::value) return EMU_POINTER;
    if (std::is_same<U, bool>::value) return EMU_BOOL;
    if (std::is_same<U, __half>::value) return EMU_HALF;
    if (std::is_same<U, __nv_bfloat16>::value) return EMU_BFLOAT;
    if (std::is_floating_point<U>::value) return EMU_FLOAT;
    if constexpr (std::is_enum<U>::value) return emu_kind<std::underlying_type_t<U>>();
    if (std::is_integral<U>::value) return std::is_signed<U>::value ? EMU_SIGNED : EMU_UNSIGNED;
    return EMU_OTHER;
}
// The type of the numbers that a struct has one after another, as x y z w.
template <class T, class = void> struct EmuLane { typedef T type; };
template <class T> struct EmuLane<T, std::void_t<decltype(std::declval<T>().x)>> {
    typedef std::remove_reference_t<decltype(std::declval<T>().x)> type;
};
// Whether a struct has a member of that name and type: `struct { float x; int id; }` is no vector.
#define EMU_HAS(name)                                                                                      \
    template <class T, class L, class = void> struct EmuHas_##name : std::false_type {};                   \
    template <class T, class L>                                                                            \
    struct EmuHas_##name<T, L, std::void_t<decltype(std::declval<T>().name)>>                              \
        : std::is_same<decltype(T::name), L> {};
EMU_HAS(y)
EMU_HAS(z)
EMU_HAS(w)
#undef EMU_HAS

template <class T> const char *emu_name() { return __PRETTY_FUNCTION__; }
template <class T> EmuType emu_type() {
    if constexpr (std::is_void<std::remove_cv_t<T>>::value) return {0, 1, EMU_VOID, 1, std::is_const<T>::value, emu_name<T>()};
    else if constexpr (std::is_function<T>::value) return {0, 1, EMU_OTHER, 1, 1, emu_name<T>()};
    else {
        typedef typename EmuLane<std::remove_cv_t<T>>::type Lane;
        constexpr unsigned kind = emu_kind<Lane>(), count = (unsigned)(sizeof(T) / sizeof(Lane));
        constexpr bool plain = kind != EMU_OTHER && kind != EMU_POINTER && sizeof(T) % sizeof(Lane) == 0 && count <= 4;
        typedef std::remove_cv_t<T> U;
        constexpr bool all = (count < 2 || EmuHas_y<U, Lane>::value) && (count < 3 || EmuHas_z<U, Lane>::value) &&
                             (count < 4 || EmuHas_w<U, Lane>::value);
        constexpr bool vector = std::is_class<T>::value && emu_kind<T>() == EMU_OTHER && plain && all;
        return {(unsigned)sizeof(T), (unsigned)alignof(T), vector ? kind : emu_kind<T>(), vector ? count : 1,
                std::is_const<T>::value, emu_name<T>()};
    }
}
template <class T> EmuParameter emu_parameter() {
    typedef std::remove_pointer_t<T> One;
    typedef std::remove_pointer_t<One> Two;
    return {{emu_type<T>(), emu_type<One>(), emu_type<Two>()}};
}
template <class... T> const EmuParameter *emu_signature(void (*)(T...), unsigned *count) {
    static const EmuParameter list[] = {emu_parameter<T>()..., {}};
    *count = sizeof...(T);
    return list;
}
template <class T> EmuGlobal emu_global(const char *name, T &at) {
    EmuGlobal g = {name, (void *)&at, sizeof(T), emu_type<std::remove_all_extents_t<T>>(), std::rank<T>::value, {}};
    unsigned long long all[8] = {std::extent<T, 0>::value, std::extent<T, 1>::value, std::extent<T, 2>::value,
                                 std::extent<T, 3>::value, std::extent<T, 4>::value, std::extent<T, 5>::value,
                                 std::extent<T, 6>::value, std::extent<T, 7>::value};
    for (int i = 0; i < 8; i++) g.extents[i] = all[i];
    return g;
}
