// Arithmetic of a 16-bit float type, for emulator/cuda_fp16.h and cuda_bf16.h, each of which includes this once
// with its names: HALF, HALF2, and EMU_WIDEN, EMU_NARROW, which convert bits to float and back to nearest even.
// Sums and products are computed in float and rounded, which gives the correctly rounded result for
// + - * / and sqrt. No include guard.

struct HALF {
    unsigned short bits;
    HALF() = default;
    EMU_INLINE HALF(float x) : bits(EMU_NARROW(x)) {}
    EMU_INLINE HALF(double x) : bits(EMU_NARROW(EMU_ODD(x))) {}
    EMU_INLINE HALF(int x) : HALF((double)x) {}
    EMU_INLINE HALF(unsigned x) : HALF((double)x) {}
    EMU_INLINE HALF(long x) : HALF((double)x) {}
    EMU_INLINE HALF(unsigned long x) : HALF((double)x) {}
    EMU_INLINE HALF(long long x) : HALF((double)x) {}
    EMU_INLINE HALF(unsigned long long x) : HALF((double)x) {}
    EMU_INLINE HALF(short x) : HALF((float)x) {}
    EMU_INLINE HALF(unsigned short x) : HALF((float)x) {}
    EMU_INLINE operator float() const { return EMU_WIDEN(bits); }
    EMU_INLINE HALF &operator+=(HALF b) { return *this = (float)*this + (float)b; }
    EMU_INLINE HALF &operator-=(HALF b) { return *this = (float)*this - (float)b; }
    EMU_INLINE HALF &operator*=(HALF b) { return *this = (float)*this * (float)b; }
    EMU_INLINE HALF &operator/=(HALF b) { return *this = (float)*this / (float)b; }
    EMU_INLINE HALF operator-() const { return emu_value<HALF>(bits ^ 0x8000u); }
    EMU_INLINE HALF operator+() const { return *this; }
    EMU_INLINE HALF &operator++() { return *this += HALF(1.0f); }
    EMU_INLINE HALF &operator--() { return *this -= HALF(1.0f); }
};
EMU_INLINE HALF operator+(HALF a, HALF b) { return a += b; }
EMU_INLINE HALF operator-(HALF a, HALF b) { return a -= b; }
EMU_INLINE HALF operator*(HALF a, HALF b) { return a *= b; }
EMU_INLINE HALF operator/(HALF a, HALF b) { return a /= b; }
#define EMU_COMPARE(op, name)                                                                              \
    EMU_INLINE bool operator op(HALF a, HALF b) { return (float)a op(float) b; }                           \
    EMU_INLINE bool __h##name(HALF a, HALF b) {                                                            \
        return (float)a op(float) b && (float)a == (float)a && (float)b == (float)b; /* false for a NaN */ \
    }                                                                                                      \
    EMU_INLINE bool __h##name##u(HALF a, HALF b) {                                                         \
        return (float)a op(float) b || (float)a != (float)a || (float)b != (float)b;                       \
    }
EMU_COMPARE(==, eq)
EMU_COMPARE(!=, ne)
EMU_COMPARE(<, lt)
EMU_COMPARE(<=, le)
EMU_COMPARE(>, gt)
EMU_COMPARE(>=, ge)
#undef EMU_COMPARE

struct alignas(4) HALF2 {
    HALF x, y;
    HALF2() = default;
    EMU_INLINE HALF2(HALF x, HALF y) : x(x), y(y) {}
    EMU_INLINE HALF2 &operator+=(HALF2 b) { return x += b.x, y += b.y, *this; }
    EMU_INLINE HALF2 &operator-=(HALF2 b) { return x -= b.x, y -= b.y, *this; }
    EMU_INLINE HALF2 &operator*=(HALF2 b) { return x *= b.x, y *= b.y, *this; }
    EMU_INLINE HALF2 &operator/=(HALF2 b) { return x /= b.x, y /= b.y, *this; }
    EMU_INLINE HALF2 operator-() const { return {-x, -y}; }
};
EMU_INLINE HALF2 operator+(HALF2 a, HALF2 b) { return a += b; }
EMU_INLINE HALF2 operator-(HALF2 a, HALF2 b) { return a -= b; }
EMU_INLINE HALF2 operator*(HALF2 a, HALF2 b) { return a *= b; }
EMU_INLINE HALF2 operator/(HALF2 a, HALF2 b) { return a /= b; }
EMU_INLINE bool operator==(HALF2 a, HALF2 b) { return a.x == b.x && a.y == b.y; }

#define EMU_BOTH(name, of_one)                                                                             \
    EMU_INLINE HALF name(HALF a, HALF b) { return of_one; }
#define EMU_PAIR(name, of_one)                                                                             \
    EMU_INLINE HALF2 name(HALF2 a, HALF2 b) { return {of_one(a.x, b.x), of_one(a.y, b.y)}; }
EMU_BOTH(__hadd, a + b)
EMU_BOTH(__hsub, a - b)
EMU_BOTH(__hmul, a *b)
EMU_BOTH(__hdiv, a / b)
EMU_BOTH(__hadd_rn, a + b)
EMU_BOTH(__hsub_rn, a - b)
EMU_BOTH(__hmul_rn, a *b)
EMU_BOTH(__hmax, HALF(fmaxf(a, b)))
EMU_BOTH(__hmin, HALF(fminf(a, b)))
EMU_BOTH(__hadd_sat, HALF(__saturatef((float)a + (float)b)))
EMU_BOTH(__hmul_sat, HALF(__saturatef((float)a * (float)b)))
EMU_PAIR(__hadd2, __hadd)
EMU_PAIR(__hsub2, __hsub)
EMU_PAIR(__hmul2, __hmul)
EMU_PAIR(__h2div, __hdiv)
EMU_PAIR(__hmax2, __hmax)
EMU_PAIR(__hmin2, __hmin)
EMU_INLINE HALF __hfma(HALF a, HALF b, HALF c) { return HALF(fma((double)a, (double)b, (double)c)); }
EMU_INLINE HALF __hfma_relu(HALF a, HALF b, HALF c) { return __hmax(__hfma(a, b, c), HALF(0.0f)); }
EMU_INLINE HALF2 __hfma2(HALF2 a, HALF2 b, HALF2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }
EMU_INLINE HALF __hneg(HALF a) { return -a; }
EMU_INLINE HALF __habs(HALF a) { return emu_value<HALF>(a.bits & 0x7fffu); }
EMU_INLINE HALF2 __hneg2(HALF2 a) { return -a; }
EMU_INLINE HALF2 __habs2(HALF2 a) { return {__habs(a.x), __habs(a.y)}; }
EMU_INLINE bool __hisnan(HALF a) { return (float)a != (float)a; }
EMU_INLINE int __hisinf(HALF a) { return std::isinf((float)a) ? (a.bits >> 15 ? -1 : 1) : 0; }
EMU_INLINE bool isnan(HALF a) { return __hisnan(a); }
EMU_INLINE bool isinf(HALF a) { return __hisinf(a) != 0; }
#define EMU_OF_FLOAT(name, expression)                                                                     \
    EMU_INLINE HALF h##name(HALF a) {                                                                      \
        float x = a;                                                                                       \
        return HALF(expression);                                                                           \
    }                                                                                                      \
    EMU_INLINE HALF2 h2##name(HALF2 a) { return {h##name(a.x), h##name(a.y)}; }
EMU_OF_FLOAT(sqrt, sqrtf(x))
EMU_OF_FLOAT(rsqrt, 1.0f / sqrtf(x))
EMU_OF_FLOAT(rcp, 1.0f / x)
EMU_OF_FLOAT(exp, expf(x))
EMU_OF_FLOAT(exp2, exp2f(x))
EMU_OF_FLOAT(exp10, powf(10.0f, x))
EMU_OF_FLOAT(log, logf(x))
EMU_OF_FLOAT(log2, log2f(x))
EMU_OF_FLOAT(log10, log10f(x))
EMU_OF_FLOAT(sin, sinf(x))
EMU_OF_FLOAT(cos, cosf(x))
EMU_OF_FLOAT(tanh, tanhf(x))
EMU_OF_FLOAT(floor, floorf(x))
EMU_OF_FLOAT(ceil, ceilf(x))
EMU_OF_FLOAT(trunc, truncf(x))
EMU_OF_FLOAT(rint, rintf(x))
#undef EMU_OF_FLOAT
#undef EMU_BOTH
#undef EMU_PAIR
#define EMU_COMPARE2(name)                                                                                 \
    EMU_INLINE HALF2 __h##name##2(HALF2 a, HALF2 b) {                                                      \
        return {HALF(__h##name(a.x, b.x) ? 1.0f : 0.0f), HALF(__h##name(a.y, b.y) ? 1.0f : 0.0f)};         \
    }                                                                                                      \
    EMU_INLINE bool __hb##name##2(HALF2 a, HALF2 b) { return __h##name(a.x, b.x) && __h##name(a.y, b.y); }
EMU_COMPARE2(eq)
EMU_COMPARE2(ne)
EMU_COMPARE2(lt)
EMU_COMPARE2(le)
EMU_COMPARE2(gt)
EMU_COMPARE2(ge)
#undef EMU_COMPARE2
EMU_INLINE float __low2float(HALF2 a) { return a.x; }
EMU_INLINE float __high2float(HALF2 a) { return a.y; }
EMU_INLINE HALF2 __lowhigh2highlow(HALF2 a) { return {a.y, a.x}; }
EMU_INLINE HALF2 __low2half2(HALF2 a) { return {a.x, a.x}; }
EMU_INLINE HALF2 __high2half2(HALF2 a) { return {a.y, a.y}; }
EMU_INLINE HALF2 __lows2half2(HALF2 a, HALF2 b) { return {a.x, b.x}; }
EMU_INLINE HALF2 __highs2half2(HALF2 a, HALF2 b) { return {a.y, b.y}; }
