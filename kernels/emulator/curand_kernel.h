// cuRAND's device generators Philox4_32_10 and XORWOW: their integers and uniform numbers have cuRAND's bits; normal
// numbers are the same but for the last digits of log, sin and cos. Philox: Salmon et al., Parallel random numbers:
// as easy as 1, 2, 3 (2011). XORWOW: Marsaglia, Xorshift RNGs (2003).
#pragma once
#pragma GCC system_header

struct EmuNormal { // what a generator keeps of a pair of normal numbers
    int boxmuller_flag, boxmuller_flag_double;
    float boxmuller_extra;
    double boxmuller_extra_double;
};

// -- Philox: four numbers from a counter, by ten rounds with a key ----------------------------------------

struct curandStatePhilox4_32_10 : EmuNormal {
    uint4 ctr, output;
    uint2 key;
    unsigned STATE; // numbers of `output` that have been given out
};
typedef curandStatePhilox4_32_10 curandStatePhilox4_32_10_t;

EMU_INLINE uint4 curand_Philox4x32_10(uint4 c, uint2 k) {
    for (int round = 0; round < 10; round++, k.x += 0x9E3779B9u, k.y += 0xBB67AE85u) {
        unsigned long long a = 0xD2511F53ull * c.x, b = 0xCD9E8D57ull * c.z;
        c = {(unsigned)(b >> 32) ^ c.y ^ k.x, (unsigned)b, (unsigned)(a >> 32) ^ c.w ^ k.y, (unsigned)a};
    }
    return c;
}
EMU_INLINE void emu_philox_add(uint4 &c, unsigned long long n) {
    unsigned low = (unsigned)n, high = (unsigned)(n >> 32);
    c.x += low;
    high += c.x < low;
    c.y += high;
    if (c.y < high && !++c.z) ++c.w;
}
EMU_INLINE void skipahead(unsigned long long n, curandStatePhilox4_32_10_t *s) {
    s->STATE += (unsigned)(n & 3);
    n = n / 4 + (s->STATE > 3);
    s->STATE &= 3;
    emu_philox_add(s->ctr, n);
    s->output = curand_Philox4x32_10(s->ctr, s->key);
}
EMU_INLINE void skipahead_sequence(unsigned long long n, curandStatePhilox4_32_10_t *s) {
    unsigned low = (unsigned)n, high = (unsigned)(n >> 32);
    s->ctr.z += low;
    s->ctr.w += high + (s->ctr.z < low);
    s->output = curand_Philox4x32_10(s->ctr, s->key);
}
EMU_INLINE void curand_init(
    unsigned long long seed, unsigned long long sequence, unsigned long long offset, curandStatePhilox4_32_10_t *s) {
    *s = curandStatePhilox4_32_10_t();
    s->key = {(unsigned)seed, (unsigned)(seed >> 32)};
    skipahead_sequence(sequence, s);
    skipahead(offset, s);
}
EMU_INLINE unsigned curand(curandStatePhilox4_32_10_t *s) {
    const unsigned all[4] = {s->output.x, s->output.y, s->output.z, s->output.w};
    unsigned number = all[s->STATE++];
    if (s->STATE == 4) {
        emu_philox_add(s->ctr, 1);
        s->output = curand_Philox4x32_10(s->ctr, s->key), s->STATE = 0;
    }
    return number;
}
EMU_INLINE uint4 curand4(curandStatePhilox4_32_10_t *s) {
    uint4 old = s->output;
    emu_philox_add(s->ctr, 1);
    uint4 now = s->output = curand_Philox4x32_10(s->ctr, s->key);
    const unsigned all[8] = {old.x, old.y, old.z, old.w, now.x, now.y, now.z, now.w};
    return {all[s->STATE], all[s->STATE + 1], all[s->STATE + 2], all[s->STATE + 3]};
}

// -- XORWOW: five words shifted and xored, and a sum ------------------------------------------------------

struct curandStateXORWOW : EmuNormal {
    unsigned d, v[5];
};
typedef curandStateXORWOW curandStateXORWOW_t, curandState_t, curandState;

#define EMU_QUIET __attribute__((noinline, no_sanitize("thread", "undefined"), no_sanitize_coverage))
struct EmuBits { // a linear map of the five words: where each of their bits goes
    unsigned of[160][5];
    EMU_QUIET void apply(unsigned *v) const {
        unsigned sum[5] = {};
        for (int i = 0; i < 160; i++)
            for (int w = 0; w < 5 && v[i / 32] >> i % 32 & 1; w++) sum[w] ^= of[i][w];
        std::memcpy(v, sum, sizeof sum);
    }
};
EMU_INLINE unsigned emu_xorwow_step(unsigned *v) {
    unsigned t = v[0] ^ v[0] >> 2;
    v[0] = v[1], v[1] = v[2], v[2] = v[3], v[3] = v[4];
    return v[4] = (v[4] ^ v[4] << 4) ^ (t ^ t << 1);
}
// n * 2^first steps at once, of maps that are each the one before applied twice.
static EMU_QUIET void emu_xorwow_skip(unsigned *v, unsigned long long n, unsigned first) {
    static EmuBits maps[67 + 64];
    static unsigned known;
    if (!known) {
        for (int i = 0; i < 160; i++) maps[0].of[i][i / 32] = 1u << i % 32, emu_xorwow_step(maps[0].of[i]);
        known = 1;
    }
    for (; n; n >>= 1, first++) {
        for (; known <= first; known++) {
            maps[known] = maps[known - 1];
            for (int i = 0; i < 160; i++) maps[known - 1].apply(maps[known].of[i]);
        }
        if (n & 1) maps[first].apply(v);
    }
}
EMU_INLINE void skipahead(unsigned long long n, curandStateXORWOW_t *s) {
    emu_xorwow_skip(s->v, n, 0);
    s->d += 362437u * (unsigned)n;
}
EMU_INLINE void skipahead_sequence(unsigned long long n, curandStateXORWOW_t *s) { emu_xorwow_skip(s->v, n, 67); }
EMU_INLINE void curand_init(
    unsigned long long seed, unsigned long long sequence, unsigned long long offset, curandStateXORWOW_t *s) {
    unsigned a = 1099087573u * ((unsigned)seed ^ 0xaad26b49u), b = 2591861531u * ((unsigned)(seed >> 32) ^ 0xf7dcefddu);
    *s = curandStateXORWOW_t();
    s->d = 6615241u + b + a;
    s->v[0] = 123456789u + a, s->v[1] = 362436069u ^ a, s->v[2] = 521288629u + b, s->v[3] = 88675123u ^ b;
    s->v[4] = 5783321u + a;
    skipahead_sequence(sequence, s);
    skipahead(offset, s);
}
EMU_INLINE unsigned curand(curandStateXORWOW_t *s) {
    unsigned last = emu_xorwow_step(s->v);
    return last + (s->d += 362437u);
}

// -- distributions ----------------------------------------------------------------------------------------

EMU_INLINE float emu_uniform(unsigned x) { return x * 0x1p-32f + 0x1p-33f; }
EMU_INLINE double emu_uniform(unsigned low, unsigned high) {
    return (low ^ (unsigned long long)high << 21) * 0x1p-53 + 0x1p-54;
}
EMU_INLINE float2 emu_normal(unsigned x, unsigned y) { // Box and Muller's pair
    float s = sqrtf(-2.0f * logf(emu_uniform(x))), angle = y * (0x1p-32f * 6.2831855f) + 0x1p-32f * 6.2831855f / 2;
    return {sinf(angle) * s, cosf(angle) * s};
}
EMU_INLINE double2 emu_normal(unsigned a, unsigned b, unsigned c, unsigned d) {
    double s = sqrt(-2.0 * log(emu_uniform(a, b))), angle = 2 * emu_uniform(c, d);
    return {sinpi(angle) * s, cospi(angle) * s};
}
EMU_INLINE double curand_uniform_double(curandStatePhilox4_32_10_t *s) { return curand(s) * 0x1p-32 + 0x1p-32; }
EMU_INLINE double curand_uniform_double(curandStateXORWOW_t *s) {
    unsigned x = curand(s), y = curand(s);
    return emu_uniform(x, y);
}
EMU_INLINE float4 curand_uniform4(curandStatePhilox4_32_10_t *s) {
    uint4 v = curand4(s);
    return {emu_uniform(v.x), emu_uniform(v.y), emu_uniform(v.z), emu_uniform(v.w)};
}
EMU_INLINE double2 curand_uniform2_double(curandStatePhilox4_32_10_t *s) {
    uint4 v = curand4(s);
    return {emu_uniform(v.x, v.y), emu_uniform(v.z, v.w)};
}
EMU_INLINE float4 curand_normal4(curandStatePhilox4_32_10_t *s) {
    uint4 v = curand4(s);
    float2 a = emu_normal(v.x, v.y), b = emu_normal(v.z, v.w);
    return {a.x, a.y, b.x, b.y};
}
EMU_INLINE double2 curand_normal2_double(curandStatePhilox4_32_10_t *s) {
    uint4 v = curand4(s);
    return emu_normal(v.x, v.y, v.z, v.w);
}
template <class S> EMU_INLINE float curand_uniform(S *s) { return emu_uniform(curand(s)); }
template <class S> EMU_INLINE float2 curand_normal2(S *s) {
    unsigned x = curand(s), y = curand(s);
    return emu_normal(x, y);
}
template <class S> EMU_INLINE float curand_normal(S *s) {
    if ((s->boxmuller_flag = !s->boxmuller_flag)) {
        float2 v = curand_normal2(s);
        s->boxmuller_extra = v.y;
        return v.x;
    }
    return s->boxmuller_extra;
}
template <class S> EMU_INLINE double curand_normal_double(S *s) {
    if ((s->boxmuller_flag_double = !s->boxmuller_flag_double)) {
        unsigned a = curand(s), b = curand(s), c = curand(s), d = curand(s);
        double2 v = emu_normal(a, b, c, d);
        s->boxmuller_extra_double = v.y;
        return v.x;
    }
    return s->boxmuller_extra_double;
}
template <class S> EMU_INLINE float curand_log_normal(S *s, float mean, float deviation) {
    return expf(mean + deviation * curand_normal(s));
}
