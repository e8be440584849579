/* Networks of one-dimensional tables of 64 entries: rows in, rows out.  A table fits a vector register, or four, so that
   one instruction looks up 64 pixels (AVX-512 VBMI), 32 (AVX2, four shuffles) or 16 (NEON).  Values -32..31 are kept
   as the places 0..63 in the tables. */

#if defined(__GNUC__)
#define EP_INLINE static inline __attribute__((always_inline, unused))
#else
#define EP_INLINE static inline
#endif

#if defined(__AVX512VBMI__) && defined(__AVX512BW__)
#include <immintrin.h>
#define EP_LANES 64
#elif defined(__AVX2__)
#include <immintrin.h>
#define EP_LANES 32
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define EP_LANES 16
#endif

EP_INLINE int ep_least(int a, int b) { return a < b ? a : b; }

EP_INLINE int ep_between(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

/* A sum over tables to their mean, ties to even; a ninth of a whole number is no tie. */
EP_INLINE int ep_mean_of(int tables, int sum) {
    if (tables == 9) return (sum + 4 + 9 * 128) / 9 - 128;
    return ((sum + tables * 128 + tables / 2 - 1 + (((sum + tables * 128) / tables) & 1)) / tables) - 128;
}

/* The mean over some tables of what stands at each pixel's places; table k begins at tables + k * stride. */
EP_INLINE void ep_means(int count, const uint8_t *const *places, const int8_t *tables, ptrdiff_t stride, int width,
                        int16_t *sums, int8_t *means) {
#if defined(EP_LANES) && EP_LANES == 64
    const __m512i ones = _mm512_set1_epi8(1);
    (void)sums;
    for (int x = 0; x < width; x += 64) {
        __m512i low = _mm512_setzero_si512(), high = low;
        for (int k = 0; k < count; k += 2) {
            const __m512i a = _mm512_permutexvar_epi8(_mm512_loadu_si512(places[k] + x), _mm512_loadu_si512(tables + k * stride));
            __m512i b = _mm512_setzero_si512();
            if (k + 1 < count) b = _mm512_permutexvar_epi8(_mm512_loadu_si512(places[k + 1] + x), _mm512_loadu_si512(tables + (k + 1) * stride));
            low = _mm512_add_epi16(low, _mm512_maddubs_epi16(ones, _mm512_unpacklo_epi8(a, b)));
            high = _mm512_add_epi16(high, _mm512_maddubs_epi16(ones, _mm512_unpackhi_epi8(a, b)));
        }
#define EP_SET(v) _mm512_set1_epi16(v)
#define EP_ADD _mm512_add_epi16
#define EP_SUB _mm512_sub_epi16
#define EP_AND(a, b) _mm512_and_si512(a, b)
#define EP_SHIFT _mm512_srai_epi16
#define EP_HIGH _mm512_mulhi_epu16
#elif defined(EP_LANES) && EP_LANES == 32
    const __m256i ones = _mm256_set1_epi8(1);
    (void)sums;
    for (int x = 0; x < width; x += 32) {
        __m256i low = _mm256_setzero_si256(), high = low, found[2];
        for (int k = 0; k < count; k += 2) {
            found[1] = _mm256_setzero_si256();
            for (int j = 0; j < 2 && k + j < count; ++j) {
                const __m256i at = _mm256_loadu_si256((const __m256i *)(const void *)(places[k + j] + x));
                const __m128i *table = (const __m128i *)(const void *)(tables + (k + j) * stride);
                const __m256i fourth = _mm256_slli_epi16(at, 3), fifth = _mm256_slli_epi16(at, 2);
                __m256i part[4];
                for (int n = 0; n < 4; ++n) part[n] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table + n)), at);
                found[j] = _mm256_blendv_epi8(_mm256_blendv_epi8(part[0], part[1], fourth),
                                              _mm256_blendv_epi8(part[2], part[3], fourth), fifth);
            }
            low = _mm256_add_epi16(low, _mm256_maddubs_epi16(ones, _mm256_unpacklo_epi8(found[0], found[1])));
            high = _mm256_add_epi16(high, _mm256_maddubs_epi16(ones, _mm256_unpackhi_epi8(found[0], found[1])));
        }
#define EP_SET(v) _mm256_set1_epi16(v)
#define EP_ADD _mm256_add_epi16
#define EP_SUB _mm256_sub_epi16
#define EP_AND(a, b) _mm256_and_si256(a, b)
#define EP_SHIFT _mm256_srai_epi16
#define EP_HIGH _mm256_mulhi_epu16
#elif defined(EP_LANES)
    (void)sums;
    for (int x = 0; x < width; x += 16) {
        int16x8_t low = vdupq_n_s16(0), high = low;
        for (int k = 0; k < count; ++k) {
            const int8_t *table = tables + k * stride;
            const int8x16x4_t all = {{vld1q_s8(table), vld1q_s8(table + 16), vld1q_s8(table + 32), vld1q_s8(table + 48)}};
            const int8x16_t found = vqtbl4q_s8(all, vld1q_u8(places[k] + x));
            low = vaddw_s8(low, vget_low_s8(found));
            high = vaddw_high_s8(high, found);
        }
        int16_t each[16];
        vst1q_s16(each, low);
        vst1q_s16(each + 8, high);
        for (int j = 0; j < 16; ++j) means[x + j] = (int8_t)ep_mean_of(count, each[j]);
    }
#else
    memset(sums, 0, sizeof(int16_t) * (size_t)width);
    for (int k = 0; k < count; ++k) {
        const uint8_t *at = places[k];
        const int8_t *table = tables + k * stride;
        for (int x = 0; x < width; ++x) sums[x] = (int16_t)(sums[x] + table[at[x]]);
    }
    for (int x = 0; x < width; ++x) means[x] = (int8_t)ep_mean_of(count, sums[x]);
#endif
#ifdef EP_SET
        if (count == 9) {
            low = EP_SUB(EP_HIGH(EP_ADD(low, EP_SET(4 + 9 * 128)), EP_SET(7282)), EP_SET(128)); /* 7282 = ceil(2^16 / 9) */
            high = EP_SUB(EP_HIGH(EP_ADD(high, EP_SET(4 + 9 * 128)), EP_SET(7282)), EP_SET(128));
        } else {
            const int shift = count == 4 ? 2 : count == 8 ? 3 : count == 16 ? 4 : count == 32 ? 5 : 6;
            const short half = (short)(count / 2 - 1);
            low = EP_SHIFT(EP_ADD(EP_ADD(low, EP_SET(half)), EP_AND(EP_SHIFT(low, shift), EP_SET(1))), shift);
            high = EP_SHIFT(EP_ADD(EP_ADD(high, EP_SET(half)), EP_AND(EP_SHIFT(high, shift), EP_SET(1))), shift);
        }
#if EP_LANES == 64
        _mm512_storeu_si512(means + x, _mm512_packs_epi16(low, high));
#else
        _mm256_storeu_si256((__m256i *)(void *)(means + x), _mm256_packs_epi16(low, high));
#endif
    }
#endif
}

/* Row y, repeated beyond the image, of a channel in one of the four rotations; layer -1 is the image, whose channel 0
   is the high bits and channel 1 the low ones. */
EP_INLINE uint8_t *ep_row(const ep_state *s, int layer, int quarter, int channel, int y) {
    const int rows = ep_rings[layer + 1];
    const int place = ep_between(y, 0, s->height - 1) % rows;
    const int plane = layer < 0 ? channel : quarter * EP_CHANNELS + channel;
    return s->rows + (size_t)(ep_starts[layer + 1] + plane * rows + place) * s->pitch + EP_MARGIN;
}

/* What lies around a row, so far as a layer looks. */
EP_INLINE void ep_margins(uint8_t *row, int width) {
    memset(row - EP_MARGIN, row[0], EP_MARGIN);
    memset(row + width, row[width - 1], EP_MARGIN);
}

/* (row, column) in an image that was turned counter-clockwise by quarters, in the image as it is. */
EP_INLINE void ep_rotate(int quarter, int *row, int *column) {
    for (int q = 0; q < quarter; ++q) {
        const int before = *row;
        *row = *column;
        *column = -before;
    }
}

EP_INLINE void ep_window(const ep_state *s, int layer, int quarter, int channel, int y, const uint8_t **places) {
    for (int tap = 0; tap < 9; ++tap) {
        int row = tap / 3 - 1, column = tap % 3 - 1;
        ep_rotate(quarter, &row, &column);
        places[tap] = ep_row(s, layer, quarter, channel, y + row) + column;
    }
}

static void ep_first(ep_state *s, int quarter, int y) {
    const uint8_t *high[9], *low[9];
    ep_window(s, -1, quarter, 0, y, high);
    ep_window(s, -1, quarter, 1, y, low);
    const uint8_t *h = ep_row(s, -1, 0, 0, y), *l = ep_row(s, -1, 0, 1, y);
    int8_t *of_low = s->means + s->pitch;
    for (int o = 0; o < EP_CHANNELS; ++o) {
        uint8_t *to = ep_row(s, 0, quarter, o, y);
        ep_means(9, high, s->tables[0] + o * 64, EP_CHANNELS * 64, s->width, s->sums, s->means);
        ep_means(9, low, s->low + o * 64, EP_CHANNELS * 64, s->width, s->sums, of_low);
        for (int x = 0; x < s->width; ++x) {
            const int lows = ep_between(of_low[x] + l[x], 0, 3);
            to[x] = (uint8_t)ep_between(s->means[x] + h[x] + lows, 0, 63);
        }
        ep_margins(to, s->width);
    }
}

EP_INLINE void ep_settle(ep_state *s, const uint8_t *given, uint8_t *to) {
    for (int x = 0; x < s->width; ++x) to[x] = (uint8_t)ep_between(s->means[x] + given[x], 0, 63);
    ep_margins(to, s->width);
}

static void ep_depthwise(ep_state *s, int layer, int quarter, int y) {
    const uint8_t *places[9];
    for (int c = 0; c < EP_CHANNELS; ++c) {
        ep_window(s, layer - 1, quarter, c, y, places);
        ep_means(9, places, s->tables[layer] + c * 64, EP_CHANNELS * 64, s->width, s->sums, s->means);
        ep_settle(s, ep_row(s, layer - 1, quarter, c, y), ep_row(s, layer, quarter, c, y));
    }
}

static void ep_pointwise(ep_state *s, int layer, int quarter, int y) {
    const uint8_t *places[EP_CHANNELS];
    for (int c = 0; c < EP_CHANNELS; ++c) {
        int row = ep_shifts[layer][c][0], column = ep_shifts[layer][c][1];
        ep_rotate(quarter, &row, &column);
        places[c] = ep_row(s, layer - 1, quarter, c, y + row) + column;
    }
    const int last = layer == EP_LAYERS - 1, outputs = last ? EP_SCALE * EP_SCALE : EP_CHANNELS;
    for (int o = 0; o < outputs; ++o) {
        ep_means(EP_CHANNELS, places, s->tables[layer] + o * 64, (ptrdiff_t)outputs * 64, s->width, s->sums, s->means);
        if (!last) {
            ep_settle(s, places[o], ep_row(s, layer, quarter, o, y));
            continue;
        }
        int8_t *to = s->outs + (size_t)(quarter * outputs + o) * s->pitch;
        for (int x = 0; x < s->width; ++x) {
            to[x] = (int8_t)ep_between(s->means[x] + (EP_JOINED ? places[o % EP_CHANNELS][x] - 32 : 0), -128, 127);
        }
    }
}

/* The four rotations' shares, turned back and added up, as pixels. */
static void ep_finish(const ep_state *s, uint8_t *out, size_t stride) {
    const int last = EP_SCALE - 1;
    const size_t next = (size_t)(EP_SCALE * EP_SCALE) * s->pitch;
    for (int a = 0; a < EP_SCALE; ++a) {
        for (int b = 0; b < EP_SCALE; ++b) {
            const int8_t *p = s->outs + (size_t)(a * EP_SCALE + b) * s->pitch;
            const int8_t *q = s->outs + next + (size_t)((last - b) * EP_SCALE + a) * s->pitch;
            const int8_t *r = s->outs + 2 * next + (size_t)((last - a) * EP_SCALE + last - b) * s->pitch;
            const int8_t *t = s->outs + 3 * next + (size_t)(b * EP_SCALE + last - a) * s->pitch;
            uint8_t *to = (uint8_t *)s->means + (size_t)b * s->pitch;
            for (int x = 0; x < s->width; ++x) to[x] = (uint8_t)ep_between(p[x] + q[x] + r[x] + t[x] + 128, 0, 255);
        }
        uint8_t *row = out + (size_t)a * stride;
        for (int x = 0; x < s->width; ++x) {
            for (int b = 0; b < EP_SCALE; ++b) row[x * EP_SCALE + b] = ((uint8_t *)s->means)[(size_t)b * s->pitch + (size_t)x];
        }
    }
}

/* Whether the next row of a layer has all that it reads. */
static int ep_ready(const ep_state *s, int layer) {
    const int y = s->next[layer], made = layer ? s->next[layer - 1] : s->pushed;
    return y < ep_least(s->last + ep_later[layer], s->height) && ep_least(y + ep_reaches[layer], s->height - 1) < made;
}

EP_INLINE size_t ep_whole(int width) { return ((size_t)(width < 1 ? 1 : width) + 63) / 64 * 64; }

size_t @NAME@_memory(int width) {
    const size_t pitch = ep_whole(width) + 2 * EP_MARGIN;
    const size_t rows = EP_ROWS + 4 * EP_SCALE * EP_SCALE + (EP_SCALE > 2 ? EP_SCALE : 2);
    return sizeof(int16_t) * ep_whole(width) + 9 * EP_CHANNELS * 64 + rows * pitch + 64;
}

int @NAME@_start_part(@NAME@_state *s, void *memory, int width, int height, int first, int last) {
    if (width < 1 || height < 1 || width > 32768 || height > 32768 || first < 0 || last > height || first >= last) return -1;
    s->width = width;
    s->height = height;
    s->first = first;
    s->last = last;
    s->pitch = ep_whole(width) + 2 * EP_MARGIN;
    s->sums = (int16_t *)memory;
    s->low = (int8_t *)(s->sums + ep_whole(width));
    s->rows = (uint8_t *)s->low + 9 * EP_CHANNELS * 64;
    s->outs = (int8_t *)s->rows + EP_ROWS * s->pitch;
    s->means = s->outs + 4 * EP_SCALE * EP_SCALE * s->pitch;
    s->tables = EP_TABLES;
    for (int k = 0; k < EP_LAYERS; ++k) s->next[k] = first > ep_later[k] ? first - ep_later[k] : 0;
    s->pushed = first > EP_HALO ? first - EP_HALO : 0;
    return s->pushed;
}

int @NAME@_start(@NAME@_state *s, void *memory, int width, int height) {
    return @NAME@_start_part(s, memory, width, height, 0, height);
}

/* Tables of the low bits stand behind all others, four entries each; here they become as long as the others. */
EP_INLINE void ep_widen(ep_state *s) {
    memset(s->low, 0, 9 * EP_CHANNELS * 64);
    for (int k = 0; k < 9 * EP_CHANNELS; ++k) memcpy(s->low + k * 64, s->tables[EP_LAYERS] + k * 4, 4);
}

void @NAME@_push(@NAME@_state *s, const uint8_t *row) {
    uint8_t *high = ep_row(s, -1, 0, 0, s->pushed), *low = ep_row(s, -1, 0, 1, s->pushed);
    if (s->pushed == (s->first > EP_HALO ? s->first - EP_HALO : 0)) ep_widen(s);
    for (int x = 0; x < s->width; ++x) {
        high[x] = row[x] >> 2;
        low[x] = row[x] & 3;
    }
    ep_margins(high, s->width);
    ep_margins(low, s->width);
    ++s->pushed;
}

/* The deepest layer that can goes first, so that no row is written over before it is read. */
int @NAME@_pull(@NAME@_state *s, uint8_t *out, size_t stride) {
    for (int k = EP_LAYERS - 1; k >= 0;) {
        if (!ep_ready(s, k)) {
            --k;
            continue;
        }
        for (int quarter = 0; quarter < 4; ++quarter) {
            if (k == 0) ep_first(s, quarter, s->next[k]);
            else if (ep_kinds[k] == 1) ep_depthwise(s, k, quarter, s->next[k]);
            else ep_pointwise(s, k, quarter, s->next[k]);
        }
        ++s->next[k];
        if (k == EP_LAYERS - 1) {
            ep_finish(s, out, stride);
            return 1;
        }
        ++k; /* the layer behind may be able to go on now */
    }
    return 0;
}

int @NAME@_part(const uint8_t *image, size_t stride, int width, int height, int first, int last, uint8_t *out,
               size_t out_stride, void *memory@GIVEN@) {
    @NAME@_state s;
    int y = @NAME@_start_part(&s, memory, width, height, first, last);
    if (y < 0) return -1;
@TAKE@    for (; y < height && s.next[EP_LAYERS - 1] < last; ++y) {
        @NAME@_push(&s, image + (size_t)y * stride);
        while (@NAME@_pull(&s, out, out_stride)) out += out_stride * EP_SCALE;
    }
    return 0;
}
@WHOLE@
