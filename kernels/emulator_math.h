// CUDA's arithmetic beyond emulator.h and the C library; part of emulator_cuda.h.
#pragma once

// -- integers ---------------------------------------------------------------------------------------------

EMU_INLINE int __mul24(int a, int b) { return (int)((unsigned)(a << 8 >> 8) * (unsigned)(b << 8 >> 8)); }
EMU_INLINE unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffffu) * (b & 0xffffffu); }
EMU_INLINE long long __mul64hi(long long a, long long b) { return (long long)((__int128)a * b >> 64); }
EMU_INLINE int __hadd(int a, int b) { return (int)(((long long)a + b) >> 1); }
EMU_INLINE int __rhadd(int a, int b) { return (int)(((long long)a + b + 1) >> 1); }
EMU_INLINE unsigned __uhadd(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a + b) >> 1); }
EMU_INLINE unsigned __sad(int a, int b, unsigned c) {
    return c + (unsigned)(a > b ? (long long)a - b : (long long)b - a);
}
EMU_INLINE unsigned __usad(unsigned a, unsigned b, unsigned c) { return c + (a > b ? a - b : b - a); }
EMU_INLINE int __ffsll(long long x) { return __builtin_ffsll(x); }
EMU_INLINE unsigned __brev(unsigned x) {
    x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
    x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
    x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(x);
}
EMU_INLINE unsigned long long __brevll(unsigned long long x) {
    return (unsigned long long)__brev((unsigned)x) << 32 | __brev((unsigned)(x >> 32));
}
EMU_INLINE unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
    unsigned long long both = (unsigned long long)b << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) r |= (unsigned)(both >> 8 * (s >> 4 * i & 7) & 0xff) << 8 * i;
    return r;
}
EMU_INLINE unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
    return (unsigned)((((unsigned long long)high << 32 | low) << (by & 31)) >> 32);
}
EMU_INLINE unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return (unsigned)(((unsigned long long)high << 32 | low) >> (by & 31));
}
EMU_INLINE unsigned __funnelshift_lc(unsigned low, unsigned high, unsigned by) {
    return by >= 32 ? low : __funnelshift_l(low, high, by);
}
EMU_INLINE unsigned __funnelshift_rc(unsigned low, unsigned high, unsigned by) {
    return by >= 32 ? high : __funnelshift_r(low, high, by);
}
EMU_INLINE int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; i++) c += (int)(signed char)(a >> 8 * i) * (int)(signed char)(b >> 8 * i);
    return c;
}
EMU_INLINE unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 4; i++) c += (a >> 8 * i & 0xff) * (b >> 8 * i & 0xff);
    return c;
}
EMU_INLINE unsigned umin(unsigned a, unsigned b) { return min(a, b); }
EMU_INLINE unsigned umax(unsigned a, unsigned b) { return max(a, b); }
EMU_INLINE long long llmin(long long a, long long b) { return min(a, b); }
EMU_INLINE long long llmax(long long a, long long b) { return max(a, b); }
EMU_INLINE unsigned long long ullmin(unsigned long long a, unsigned long long b) { return min(a, b); }
EMU_INLINE unsigned long long ullmax(unsigned long long a, unsigned long long b) { return max(a, b); }
#define EMU_MIXED(wide, narrow)                                                                            \
    EMU_INLINE wide min(wide a, narrow b) { return min(a, (wide)b); }                                      \
    EMU_INLINE wide min(narrow a, wide b) { return min((wide)a, b); }                                      \
    EMU_INLINE wide max(wide a, narrow b) { return max(a, (wide)b); }                                      \
    EMU_INLINE wide max(narrow a, wide b) { return max((wide)a, b); }
EMU_MIXED(double, float)
EMU_MIXED(unsigned long long, long long)
EMU_MIXED(unsigned long, long)

// -- bits and conversions ---------------------------------------------------------------------------------

EMU_INLINE long long __double_as_longlong(double x) { return emu_value<long long>(emu_bits(x)); }
EMU_INLINE double __longlong_as_double(long long x) { return emu_value<double>(emu_bits(x)); }
EMU_INLINE int __double2hiint(double x) { return (int)(emu_bits(x) >> 32); }
EMU_INLINE int __double2loint(double x) { return (int)emu_bits(x); }
EMU_INLINE double __hiloint2double(int high, int low) {
    return emu_value<double>((unsigned long long)(unsigned)high << 32 | (unsigned)low);
}
#define EMU_TO_INTEGER(from, name, to)                                                                     \
    EMU_INLINE to __##from##2##name##_rn(from x) { return (to)std::nearbyint(x); }                         \
    EMU_INLINE to __##from##2##name##_rz(from x) { return (to)std::trunc(x); }                             \
    EMU_INLINE to __##from##2##name##_rd(from x) { return (to)std::floor(x); }                             \
    EMU_INLINE to __##from##2##name##_ru(from x) { return (to)std::ceil(x); }
EMU_TO_INTEGER(double, int, int)
EMU_TO_INTEGER(double, uint, unsigned)
EMU_TO_INTEGER(double, ll, long long)
EMU_TO_INTEGER(double, ull, unsigned long long)
EMU_TO_INTEGER(float, uint, unsigned)
EMU_TO_INTEGER(float, ll, long long)
EMU_TO_INTEGER(float, ull, unsigned long long)
EMU_INLINE float __ll2float_rn(long long x) { return (float)x; }
EMU_INLINE float __ull2float_rn(unsigned long long x) { return (float)x; }
EMU_INLINE float __double2float_rn(double x) { return (float)x; }
EMU_INLINE double __int2double_rn(int x) { return x; }
EMU_INLINE double __uint2double_rn(unsigned x) { return x; }
EMU_INLINE double __ll2double_rn(long long x) { return (double)x; }

// -- floating point ---------------------------------------------------------------------------------------

EMU_INLINE float __tanf(float x) { return tanf(x); }
EMU_INLINE float __log10f(float x) { return log10f(x); }
EMU_INLINE double __dadd_rn(double a, double b) { return a + b; }
EMU_INLINE double __dsub_rn(double a, double b) { return a - b; }
EMU_INLINE double __dmul_rn(double a, double b) { return a * b; }
EMU_INLINE double __ddiv_rn(double a, double b) { return a / b; }
EMU_INLINE double __drcp_rn(double a) { return 1 / a; }
EMU_INLINE double __dsqrt_rn(double a) { return sqrt(a); }
EMU_INLINE double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
EMU_INLINE void __sincosf(float x, float *s, float *c) { *s = sinf(x), *c = cosf(x); }
EMU_INLINE float sinpif(float x) { return (float)sin(M_PI * fmod((double)x, 2.0)); }
EMU_INLINE float cospif(float x) { return (float)cos(M_PI * fmod((double)x, 2.0)); }
EMU_INLINE double sinpi(double x) { return sin(M_PI * fmod(x, 2.0)); }
EMU_INLINE double cospi(double x) { return cos(M_PI * fmod(x, 2.0)); }
EMU_INLINE void sincospif(float x, float *s, float *c) { *s = sinpif(x), *c = cospif(x); }
EMU_INLINE float rcbrtf(float x) { return 1 / cbrtf(x); }
EMU_INLINE float rhypotf(float x, float y) { return 1 / hypotf(x, y); }
EMU_INLINE float norm3df(float x, float y, float z) { return (float)std::hypot((double)x, (double)y, (double)z); }
EMU_INLINE float norm4df(float x, float y, float z, float w) {
    return (float)sqrt((double)x * x + (double)y * y + (double)z * z + (double)w * w);
}
EMU_INLINE float rnorm3df(float x, float y, float z) { return 1 / norm3df(x, y, z); }
EMU_INLINE float normcdff(float x) { return (float)(0.5 * erfc(-(double)x * M_SQRT1_2)); }
EMU_INLINE double normcdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }
// Newton's steps from near the root, for y up to 1.
EMU_INLINE double emu_erfcinv(double y) {
    double x = y > 0.1 ? (1 - y) * 0.886 : sqrt(-log(y * sqrt(-M_PI * log(y))));
    for (int i = 0; i < 8; i++) x += (erfc(x) - y) / (M_2_SQRTPI * exp(-x * x));
    return x;
}
EMU_INLINE double erfcinv(double y) {
    if (y > 0 && y < 2) return y > 1 ? -emu_erfcinv(2 - y) : emu_erfcinv(y);
    return y == 0 ? HUGE_VAL : y == 2 ? -HUGE_VAL : std::nan("");
}
EMU_INLINE double erfinv(double y) {
    if (fabs(y) > 0.5) return erfcinv(1 - y);
    double x = y * 0.886;
    for (int i = 0; i < 8; i++) x -= (erf(x) - y) / (M_2_SQRTPI * exp(-x * x));
    return x;
}
EMU_INLINE double normcdfinv(double y) { return -M_SQRT2 * erfcinv(2 * y); }
EMU_INLINE float erfinvf(float y) { return (float)erfinv(y); }
EMU_INLINE float erfcinvf(float y) { return (float)erfcinv(y); }
EMU_INLINE float normcdfinvf(float y) { return (float)normcdfinv(y); }
EMU_INLINE float erfcxf(float x) { return (float)(exp((double)x * x) * erfc((double)x)); }
EMU_INLINE float fdividef(float x, float y) { return x / y; }
EMU_INLINE float saturate(float x) { return __saturatef(x); }
EMU_INLINE double rsqrt(float x) { return 1.0 / std::sqrt((double)x); }

#define CUDART_INF_F __builtin_inff()
#define CUDART_NAN_F __builtin_nanf("")
#define CUDART_INF __builtin_inf()
#define CUDART_NAN __builtin_nan("")
#define CUDART_PI_F 3.141592654f
#define CUDART_PI 3.1415926535897931e+0
#define CUDART_MAX_NORMAL_F FLT_MAX
#define CUDART_MIN_DENORM_F 1.401298464e-45f
