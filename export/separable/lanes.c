/* Tables of 64 entries looked up for EP_LANES pixels at once: one instruction of AVX-512 VBMI, four shuffles of AVX2, one
   TBL of NEON, a loop elsewhere.  Bytes go in and out; sums are of 16 bits, in an order that is each kind's own. */

#if defined(__GNUC__)
#define EP_INLINE static inline __attribute__((always_inline, unused))
#else
#define EP_INLINE static inline
#endif

EP_INLINE int ep_least(int a, int b) { return a < b ? a : b; }

EP_INLINE int ep_between(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

/* A mean is of 9 numbers, or of a power of two of them with ties to even; 7282 / 65536 is as good as a ninth here. */
#define EP_BIAS (4 + 9 * 128)
#define EP_NINTH 7282
EP_INLINE int ep_log2(int count) { return count < 8 ? 2 : count < 16 ? 3 : count < 32 ? 4 : count < 64 ? 5 : 6; }

#if defined(__AVX512VBMI__) && defined(__AVX512BW__)
#include <immintrin.h>
#define EP_LANES 64
typedef __m512i ep_bytes;
typedef struct { __m512i low, high; } ep_sums;

EP_INLINE ep_bytes ep_load(const void *p) { return _mm512_loadu_si512(p); }
EP_INLINE void ep_store(void *p, ep_bytes v) { _mm512_storeu_si512(p, v); }
EP_INLINE ep_bytes ep_all(int v) { return _mm512_set1_epi8((char)v); }
EP_INLINE ep_bytes ep_plus(ep_bytes a, ep_bytes b) { return _mm512_adds_epi8(a, b); }
EP_INLINE ep_bytes ep_clamp(ep_bytes v, int low, int high) {
    return _mm512_min_epi8(_mm512_max_epi8(v, ep_all(low)), ep_all(high));
}
EP_INLINE ep_bytes ep_found(const int8_t *table, const uint8_t *at) {
    return _mm512_permutexvar_epi8(ep_load(at), _mm512_loadu_si512(table));
}
EP_INLINE ep_sums ep_none(void) {
    const ep_sums s = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    return s;
}
EP_INLINE ep_sums ep_add(ep_sums s, ep_bytes a, ep_bytes b) {
    const __m512i ones = ep_all(1);
    s.low = _mm512_add_epi16(s.low, _mm512_maddubs_epi16(ones, _mm512_unpacklo_epi8(a, b)));
    s.high = _mm512_add_epi16(s.high, _mm512_maddubs_epi16(ones, _mm512_unpackhi_epi8(a, b)));
    return s;
}
EP_INLINE __m512i ep_half_mean(__m512i sum, int count) {
    if (count == 9) {
        sum = _mm512_mulhi_epu16(_mm512_add_epi16(sum, _mm512_set1_epi16(EP_BIAS)), _mm512_set1_epi16(EP_NINTH));
        return _mm512_sub_epi16(sum, _mm512_set1_epi16(128));
    }
    const unsigned shift = (unsigned)ep_log2(count);
    const __m512i odd = _mm512_and_si512(_mm512_srai_epi16(sum, shift), _mm512_set1_epi16(1));
    return _mm512_srai_epi16(_mm512_add_epi16(_mm512_add_epi16(sum, _mm512_set1_epi16((short)(count / 2 - 1))), odd), shift);
}
EP_INLINE ep_bytes ep_mean(ep_sums s, int count) {
    return _mm512_packs_epi16(ep_half_mean(s.low, count), ep_half_mean(s.high, count));
}

#elif defined(__AVX2__)
#include <immintrin.h>
#define EP_LANES 32
typedef __m256i ep_bytes;
typedef struct { __m256i low, high; } ep_sums;

EP_INLINE ep_bytes ep_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
EP_INLINE void ep_store(void *p, ep_bytes v) { _mm256_storeu_si256((__m256i *)p, v); }
EP_INLINE ep_bytes ep_all(int v) { return _mm256_set1_epi8((char)v); }
EP_INLINE ep_bytes ep_plus(ep_bytes a, ep_bytes b) { return _mm256_adds_epi8(a, b); }
EP_INLINE ep_bytes ep_clamp(ep_bytes v, int low, int high) {
    return _mm256_min_epi8(_mm256_max_epi8(v, ep_all(low)), ep_all(high));
}
EP_INLINE ep_bytes ep_quarter(const int8_t *table, ep_bytes at) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table)), at);
}
EP_INLINE ep_bytes ep_found(const int8_t *table, const uint8_t *places) {
    const ep_bytes at = ep_load(places), fourth = _mm256_slli_epi16(at, 3), fifth = _mm256_slli_epi16(at, 2);
    return _mm256_blendv_epi8(_mm256_blendv_epi8(ep_quarter(table, at), ep_quarter(table + 16, at), fourth),
                              _mm256_blendv_epi8(ep_quarter(table + 32, at), ep_quarter(table + 48, at), fourth), fifth);
}
EP_INLINE ep_sums ep_none(void) {
    const ep_sums s = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    return s;
}
EP_INLINE ep_sums ep_add(ep_sums s, ep_bytes a, ep_bytes b) {
    const __m256i ones = ep_all(1);
    s.low = _mm256_add_epi16(s.low, _mm256_maddubs_epi16(ones, _mm256_unpacklo_epi8(a, b)));
    s.high = _mm256_add_epi16(s.high, _mm256_maddubs_epi16(ones, _mm256_unpackhi_epi8(a, b)));
    return s;
}
EP_INLINE __m256i ep_half_mean(__m256i sum, int count) {
    if (count == 9) {
        sum = _mm256_mulhi_epu16(_mm256_add_epi16(sum, _mm256_set1_epi16(EP_BIAS)), _mm256_set1_epi16(EP_NINTH));
        return _mm256_sub_epi16(sum, _mm256_set1_epi16(128));
    }
    const int shift = ep_log2(count);
    const __m256i odd = _mm256_and_si256(_mm256_srai_epi16(sum, shift), _mm256_set1_epi16(1));
    return _mm256_srai_epi16(_mm256_add_epi16(_mm256_add_epi16(sum, _mm256_set1_epi16((short)(count / 2 - 1))), odd), shift);
}
EP_INLINE ep_bytes ep_mean(ep_sums s, int count) {
    return _mm256_packs_epi16(ep_half_mean(s.low, count), ep_half_mean(s.high, count));
}

#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define EP_LANES 16
typedef int8x16_t ep_bytes;
typedef struct { int16x8_t low, high; } ep_sums;

EP_INLINE ep_bytes ep_load(const void *p) { return vld1q_s8((const int8_t *)p); }
EP_INLINE void ep_store(void *p, ep_bytes v) { vst1q_s8((int8_t *)p, v); }
EP_INLINE ep_bytes ep_plus(ep_bytes a, ep_bytes b) { return vqaddq_s8(a, b); }
EP_INLINE ep_bytes ep_clamp(ep_bytes v, int low, int high) {
    return vminq_s8(vmaxq_s8(v, vdupq_n_s8((int8_t)low)), vdupq_n_s8((int8_t)high));
}
EP_INLINE ep_bytes ep_all(int v) { return vdupq_n_s8((int8_t)v); }
EP_INLINE ep_bytes ep_found(const int8_t *table, const uint8_t *at) {
    const int8x16x4_t all = {{vld1q_s8(table), vld1q_s8(table + 16), vld1q_s8(table + 32), vld1q_s8(table + 48)}};
    return vqtbl4q_s8(all, vld1q_u8(at));
}
EP_INLINE ep_sums ep_none(void) {
    const ep_sums s = {vdupq_n_s16(0), vdupq_n_s16(0)};
    return s;
}
EP_INLINE ep_sums ep_add(ep_sums s, ep_bytes a, ep_bytes b) {
    s.low = vaddq_s16(s.low, vaddl_s8(vget_low_s8(a), vget_low_s8(b)));
    s.high = vaddq_s16(s.high, vaddl_high_s8(a, b));
    return s;
}
EP_INLINE int16x8_t ep_half_mean(int16x8_t sum, int count) {
    if (count == 9) {
        const uint16x8_t biased = vreinterpretq_u16_s16(vaddq_s16(sum, vdupq_n_s16(EP_BIAS)));
        const uint16x4_t low = vshrn_n_u32(vmull_n_u16(vget_low_u16(biased), EP_NINTH), 16);
        const uint16x8_t ninth = vshrn_high_n_u32(low, vmull_high_n_u16(biased, EP_NINTH), 16);
        return vsubq_s16(vreinterpretq_s16_u16(ninth), vdupq_n_s16(128));
    }
    const int16x8_t shift = vdupq_n_s16((int16_t)-ep_log2(count));
    const int16x8_t odd = vandq_s16(vshlq_s16(sum, shift), vdupq_n_s16(1));
    return vshlq_s16(vaddq_s16(vaddq_s16(sum, vdupq_n_s16((int16_t)(count / 2 - 1))), odd), shift);
}
EP_INLINE ep_bytes ep_mean(ep_sums s, int count) {
    return vqmovn_high_s16(vqmovn_s16(ep_half_mean(s.low, count)), ep_half_mean(s.high, count));
}

#else
#define EP_LANES 16
typedef struct { int8_t v[16]; } ep_bytes;
typedef struct { int16_t v[16]; } ep_sums;

EP_INLINE ep_bytes ep_load(const void *p) {
    ep_bytes r;
    memcpy(&r, p, sizeof r);
    return r;
}
EP_INLINE void ep_store(void *p, ep_bytes v) { memcpy(p, &v, sizeof v); }
EP_INLINE ep_bytes ep_all(int v) {
    ep_bytes r;
    for (int j = 0; j < 16; ++j) r.v[j] = (int8_t)v;
    return r;
}
EP_INLINE ep_bytes ep_plus(ep_bytes a, ep_bytes b) {
    for (int j = 0; j < 16; ++j) a.v[j] = (int8_t)ep_between(a.v[j] + b.v[j], -128, 127);
    return a;
}
EP_INLINE ep_bytes ep_clamp(ep_bytes a, int low, int high) {
    for (int j = 0; j < 16; ++j) a.v[j] = (int8_t)ep_between(a.v[j], low, high);
    return a;
}
/* Beyond the width of an image may stand anything. */
EP_INLINE ep_bytes ep_found(const int8_t *table, const uint8_t *at) {
    ep_bytes r;
    for (int j = 0; j < 16; ++j) r.v[j] = table[at[j] & 63];
    return r;
}
EP_INLINE ep_sums ep_none(void) {
    const ep_sums s = {{0}};
    return s;
}
EP_INLINE ep_sums ep_add(ep_sums s, ep_bytes a, ep_bytes b) {
    for (int j = 0; j < 16; ++j) s.v[j] = (int16_t)(s.v[j] + a.v[j] + b.v[j]);
    return s;
}
EP_INLINE ep_bytes ep_mean(ep_sums s, int count) {
    ep_bytes r;
    const int shift = ep_log2(count);
    for (int j = 0; j < 16; ++j) {
        const int sum = s.v[j], whole = sum + count * 128; /* nothing below zero is shifted */
        r.v[j] = (int8_t)(count == 9 ? (sum + EP_BIAS) / 9 - 128 : ((whole + count / 2 - 1 + ((whole >> shift) & 1)) >> shift) - 128);
    }
    return r;
}
#endif
