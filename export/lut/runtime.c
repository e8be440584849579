/* The part that all networks share: rows in, rows out, look-ups between nodes of tables. */

#if defined(__GNUC__)
#define EP_INLINE static inline __attribute__((always_inline, unused))
#else
#define EP_INLINE static inline
#endif

/* Before a loop whose rounds do not touch each other's memory: whole vectors of points are done at once. */
#if defined(__clang__)
#define EP_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define EP_INDEPENDENT _Pragma("GCC ivdep")
#else
#define EP_INDEPENDENT
#endif

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

/* Whether what lies outside of an image is its mirror image, and not its last row or column. */
EP_INLINE int ep_mirrored(const ep_state *s, int reach) {
    return EP_REFLECT && s->height > reach && s->width > reach;
}

/* The row of a plane that holds image row y, which may lie outside. */
EP_INLINE const uint8_t *ep_row(const ep_state *s, int plane, int y, int reach) {
    if (y < 0) y = ep_mirrored(s, reach) ? -y : 0;
    if (y >= s->height) y = ep_mirrored(s, reach) ? 2 * (s->height - 1) - y : s->height - 1;
    return s->planes + ((size_t)plane * EP_RING + (size_t)(y % EP_RING)) * s->pitch + EP_MARGIN;
}

/* Where a row of a plane goes; margins lie on both sides. */
EP_INLINE uint8_t *ep_place(const ep_state *s, int plane, int y) {
    return s->planes + ((size_t)plane * EP_RING + (size_t)(y % EP_RING)) * s->pitch + EP_MARGIN;
}

/* Fill the margins of a row. */
static void ep_margins(uint8_t *row, int width, int mirrored) {
    for (int k = 1; k <= EP_MARGIN; ++k) {
        row[-k] = mirrored && k < width ? row[k] : row[0];
        row[width - 1 + k] = mirrored && k < width ? row[width - 1 - k] : row[width - 1];
    }
}

#define EP_SORT(a, b) { const int32_t high = a > b ? a : b; b = a > b ? b : a; a = high; }

/* Rows of the table and weights of the n + 1 corners around each pixel's n values; strides are below 2^16. */
EP_INLINE void ep_corners(int n, int bits, const uint8_t *p0, const uint8_t *p1, const uint8_t *p2, const uint8_t *p3,
                          int32_t s0, int32_t s1, int32_t s2, int32_t s3, int width, int32_t *restrict rows,
                          uint8_t *restrict weights) {
    const int32_t low = (1 << bits) - 1;
    EP_INDEPENDENT
    for (int x = 0; x < width; ++x) {
        const int32_t a = p0[x], b = n > 1 ? p1[x] : 0, c = n > 2 ? p2[x] : 0, d = n > 3 ? p3[x] : 0;
        int32_t ka = (a & low) << 16 | s0, kb = (b & low) << 16 | s1, kc = (c & low) << 16 | s2, kd = (d & low) << 16 | s3;
        int32_t row = (a >> bits) * s0 + (b >> bits) * s1 + (c >> bits) * s2 + (d >> bits) * s3;
        if (n == 4) { EP_SORT(ka, kb) EP_SORT(kc, kd) EP_SORT(ka, kc) EP_SORT(kb, kd) EP_SORT(kb, kc) }
        if (n == 3) { EP_SORT(ka, kb) EP_SORT(kb, kc) EP_SORT(ka, kb) }
        if (n == 2) { EP_SORT(ka, kb) }
        const int32_t fa = ka >> 16, fb = kb >> 16, fc = kc >> 16, fd = kd >> 16;
        rows[x] = row;
        weights[x] = (uint8_t)(low + 1 - fa);
        row += ka & 0xffff;
        rows[width + x] = row;
        weights[width + x] = (uint8_t)(fa - (n > 1 ? fb : 0));
        if (n > 1) {
            row += kb & 0xffff;
            rows[2 * width + x] = row;
            weights[2 * width + x] = (uint8_t)(fb - (n > 2 ? fc : 0));
        }
        if (n > 2) {
            row += kc & 0xffff;
            rows[3 * width + x] = row;
            weights[3 * width + x] = (uint8_t)(fc - (n > 3 ? fd : 0));
        }
        if (n > 3) {
            row += kd & 0xffff;
            rows[4 * width + x] = row;
            weights[4 * width + x] = (uint8_t)fd;
        }
    }
}

/* Add the weighted rows of a table of `outputs` values to the sums of each pixel, which fit 16 bits. */
EP_INLINE void ep_gather(int corners, int outputs, const int8_t *table, int width, const int32_t *rows,
                         const uint8_t *weights, int16_t *sums) {
    int x = 0;
#if defined(__AVX2__)
    if (outputs == 16 && corners == 5) {
        for (; x < width; ++x) {
            const __m128i t0 = _mm_loadu_si128((const __m128i *)(table + (ptrdiff_t)rows[x] * 16));
            const __m128i t1 = _mm_loadu_si128((const __m128i *)(table + (ptrdiff_t)rows[width + x] * 16));
            const __m128i t2 = _mm_loadu_si128((const __m128i *)(table + (ptrdiff_t)rows[2 * width + x] * 16));
            const __m128i t3 = _mm_loadu_si128((const __m128i *)(table + (ptrdiff_t)rows[3 * width + x] * 16));
            const __m128i t4 = _mm_loadu_si128((const __m128i *)(table + (ptrdiff_t)rows[4 * width + x] * 16));
            const __m128i w01 = _mm_set1_epi16((short)(weights[x] | weights[width + x] << 8));
            const __m128i w23 = _mm_set1_epi16((short)(weights[2 * width + x] | weights[3 * width + x] << 8));
            const __m128i w4 = _mm_set1_epi16(weights[4 * width + x]);
            const __m128i zero = _mm_setzero_si128();
            __m128i low = _mm_maddubs_epi16(w01, _mm_unpacklo_epi8(t0, t1));
            __m128i high = _mm_maddubs_epi16(w01, _mm_unpackhi_epi8(t0, t1));
            low = _mm_add_epi16(low, _mm_maddubs_epi16(w23, _mm_unpacklo_epi8(t2, t3)));
            high = _mm_add_epi16(high, _mm_maddubs_epi16(w23, _mm_unpackhi_epi8(t2, t3)));
            low = _mm_add_epi16(low, _mm_maddubs_epi16(w4, _mm_unpacklo_epi8(t4, zero)));
            high = _mm_add_epi16(high, _mm_maddubs_epi16(w4, _mm_unpackhi_epi8(t4, zero)));
            __m128i *to = (__m128i *)(sums + (ptrdiff_t)x * 16);
            _mm_storeu_si128(to, _mm_add_epi16(_mm_loadu_si128(to), low));
            _mm_storeu_si128(to + 1, _mm_add_epi16(_mm_loadu_si128(to + 1), high));
        }
    }
#elif defined(__ARM_NEON)
    if (outputs == 16) {
        for (; x < width; ++x) {
            int16x8_t low = vld1q_s16(sums + (ptrdiff_t)x * 16), high = vld1q_s16(sums + (ptrdiff_t)x * 16 + 8);
            for (int k = 0; k < corners; ++k) {
                const int8x16_t t = vld1q_s8(table + (ptrdiff_t)rows[k * width + x] * 16);
                const int16x8_t w = vdupq_n_s16(weights[k * width + x]);
                low = vmlaq_s16(low, vmovl_s8(vget_low_s8(t)), w);
                high = vmlaq_s16(high, vmovl_s8(vget_high_s8(t)), w);
            }
            vst1q_s16(sums + (ptrdiff_t)x * 16, low);
            vst1q_s16(sums + (ptrdiff_t)x * 16 + 8, high);
        }
    }
#endif
    for (; x < width; ++x) {
        int16_t *to = sums + (ptrdiff_t)x * outputs;
        const int8_t *from[5];
        int16_t weight[5];
        for (int k = 0; k < 5; ++k) { /* five at all times: the compiler keeps them in registers */
            const int at = k < corners ? k * width + x : x;
            from[k] = table + (ptrdiff_t)rows[at] * outputs;
            weight[k] = (int16_t)(k < corners ? weights[at] : 0);
        }
        for (int o = 0; o < outputs; ++o) {
            to[o] = (int16_t)(to[o] + weight[0] * from[0][o] + weight[1] * from[1][o] + weight[2] * from[2][o] +
                              weight[3] * from[3][o] + weight[4] * from[4][o]);
        }
    }
}

/* A sum to a pixel: sum / divisor + bias, half up, in 0..255. */
EP_INLINE uint8_t ep_settle(int32_t sum, int32_t divisor, int32_t bias) {
    const int32_t value = (2 * sum + divisor + 2 * divisor * bias) / (2 * divisor);
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* Sums of one rotation after another to rows of planes. */
EP_INLINE void ep_planes(int outputs, int rotations, int32_t divisor, int32_t bias, int width, const int16_t *sums,
                         int output, uint8_t *to) {
    for (int x = 0; x < width; ++x) {
        int32_t sum = 0;
        for (int q = 0; q < rotations; ++q) sum += sums[((ptrdiff_t)q * width + x) * outputs + output];
        to[x] = ep_settle(sum, divisor, bias);
    }
}

/* Sums of one rotation after another to the output's rows; blocks are turned back as their rotation says. */
EP_INLINE void ep_blocks(int scale, int rotations, int32_t divisor, int32_t bias, int width, const int16_t *sums,
                         uint8_t *out, size_t stride) {
    const int outputs = scale * scale, last = scale - 1;
    int x = 0;
#if defined(__AVX2__)
    if (scale == 4 && rotations == 4 && bias == 0 && EP_SMALL_SUMS) {
        const __m256i turned = _mm256_setr_epi8(14, 15, 12, 13, 10, 11, 8, 9, 6, 7, 4, 5, 2, 3, 0, 1,
                                                14, 15, 12, 13, 10, 11, 8, 9, 6, 7, 4, 5, 2, 3, 0, 1);
        const __m256i pairs = _mm256_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15,
                                               0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        const __m256i half = _mm256_set1_epi16((short)(divisor / 2));
        for (; x < width; ++x) {
            const int16_t *from = sums + (ptrdiff_t)x * 16;
            const ptrdiff_t next = (ptrdiff_t)width * 16;
            __m256i straight = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(from + 2 * next)), turned);
            __m256i quarter = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(from + 3 * next)), turned);
            straight = _mm256_permute2x128_si256(straight, straight, 1);
            quarter = _mm256_permute2x128_si256(quarter, quarter, 1);
            straight = _mm256_add_epi16(straight, _mm256_loadu_si256((const __m256i *)from));
            quarter = _mm256_add_epi16(quarter, _mm256_loadu_si256((const __m256i *)(from + next)));
            quarter = _mm256_permute4x64_epi64(quarter, 0x1b);
            quarter = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(quarter, pairs), order);
            __m256i sum = _mm256_max_epi16(_mm256_add_epi16(_mm256_add_epi16(straight, quarter), half), _mm256_setzero_si256());
            sum = EP_DIVIDE(sum);
            const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
            const int32_t parts[4] = {_mm_extract_epi32(bytes, 0), _mm_extract_epi32(bytes, 1),
                                      _mm_extract_epi32(bytes, 2), _mm_extract_epi32(bytes, 3)};
            for (int a = 0; a < 4; ++a) memcpy(out + (size_t)a * stride + 4 * (size_t)x, &parts[a], 4);
        }
    }
#endif
    for (; x < width; ++x) {
        for (int a = 0; a < scale; ++a) {
            for (int b = 0; b < scale; ++b) {
                const int16_t *from = sums + (ptrdiff_t)x * outputs;
                int32_t sum = from[a * scale + b];
                if (rotations == 4) {
                    const ptrdiff_t next = (ptrdiff_t)width * outputs;
                    sum += from[next + (last - b) * scale + a];
                    sum += from[2 * next + (last - a) * scale + last - b];
                    sum += from[3 * next + b * scale + last - a];
                }
                out[(size_t)a * stride + (size_t)x * (size_t)scale + (size_t)b] = ep_settle(sum, divisor, bias);
            }
        }
    }
}
