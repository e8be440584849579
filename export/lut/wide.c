/* Stages of samplers and bands: taps of 16 bits, weights of 16, sums of 32 where 16 do not hold them. */

#define EP_SORT_WIDE(a, b) { const uint32_t high = a > b ? a : b; b = a > b ? b : a; a = high; }

#define EP_EITHER(near, other) ((near) ^ (((near) ^ (other)) & far)) /* the other where far is -1 */

/* As ep_corners, of values in 16 bits.  Points whose values all lie within `limit` of the first read the rows of the
   near grid, others those of the far one; a limit below 0 leaves the near grid alone.  Weights add up to a node's
   distance times `near_times` or `far_times`, the same number. */
EP_INLINE void ep_corners_wide(int n, int32_t limit, int near_bits, int near_times, int32_t near_start, int32_t n0,
                               int32_t n1, int32_t n2, int32_t n3, int far_bits, int far_times, int32_t far_start,
                               int32_t f0, int32_t f1, int32_t f2, int32_t f3, const uint16_t *restrict values, int width,
                               int32_t *restrict rows, uint16_t *restrict weights) {
    EP_INDEPENDENT
    for (int x = 0; x < width; ++x) {
        const int32_t a = values[x], b = n > 1 ? values[width + x] : 0;
        const int32_t c = n > 2 ? values[2 * width + x] : 0, d = n > 3 ? values[3 * width + x] : 0;
        /* no branches: whole vectors of points are done at once */
        const int32_t far = limit < 0 ? 0 : -((a - b > limit) | (b - a > limit) | (a - c > limit) | (c - a > limit) |
                                              (a - d > limit) | (d - a > limit));
        const int32_t bits = EP_EITHER(near_bits, far_bits), times = EP_EITHER(near_times, far_times);
        const uint32_t low = ((uint32_t)1 << bits) - 1;
        const int32_t s0 = EP_EITHER(n0, f0), s1 = EP_EITHER(n1, f1), s2 = EP_EITHER(n2, f2), s3 = EP_EITHER(n3, f3);
        int32_t row = EP_EITHER(near_start, far_start) + (a >> bits) * s0 + (b >> bits) * s1 + (c >> bits) * s2 + (d >> bits) * s3;
        uint32_t ka = ((uint32_t)a & low) << 16 | (uint32_t)s0, kb = ((uint32_t)b & low) << 16 | (uint32_t)s1;
        uint32_t kc = ((uint32_t)c & low) << 16 | (uint32_t)s2, kd = ((uint32_t)d & low) << 16 | (uint32_t)s3;
        if (n == 4) { EP_SORT_WIDE(ka, kb) EP_SORT_WIDE(kc, kd) EP_SORT_WIDE(ka, kc) EP_SORT_WIDE(kb, kd) EP_SORT_WIDE(kb, kc) }
        if (n == 3) { EP_SORT_WIDE(ka, kb) EP_SORT_WIDE(kb, kc) EP_SORT_WIDE(ka, kb) }
        if (n == 2) { EP_SORT_WIDE(ka, kb) }
        const uint32_t fa = ka >> 16, fb = n > 1 ? kb >> 16 : 0, fc = n > 2 ? kc >> 16 : 0, fd = n > 3 ? kd >> 16 : 0;
        rows[x] = row;
        weights[x] = (uint16_t)((low + 1 - fa) * (uint32_t)times);
        row += (int32_t)(ka & 0xffff);
        rows[width + x] = row;
        weights[width + x] = (uint16_t)((fa - fb) * (uint32_t)times);
        if (n > 1) {
            row += (int32_t)(kb & 0xffff);
            rows[2 * width + x] = row;
            weights[2 * width + x] = (uint16_t)((fb - fc) * (uint32_t)times);
        }
        if (n > 2) {
            row += (int32_t)(kc & 0xffff);
            rows[3 * width + x] = row;
            weights[3 * width + x] = (uint16_t)((fc - fd) * (uint32_t)times);
        }
        if (n > 3) {
            row += (int32_t)(kd & 0xffff);
            rows[4 * width + x] = row;
            weights[4 * width + x] = (uint16_t)(fd * (uint32_t)times);
        }
    }
}

/* Weights of 16 bits, which fit 8, to 8 in their place. */
EP_INLINE void ep_narrow(int count, void *weights) {
    for (int k = 0; k < count; ++k) {
        uint16_t weight;
        memcpy(&weight, (const char *)weights + 2 * (size_t)k, sizeof weight);
        ((uint8_t *)weights)[k] = (uint8_t)weight;
    }
}

/* As ep_gather; `whole` is what the weights add up to. */
EP_INLINE void ep_gather_wide(int corners, int outputs, int32_t whole, const int8_t *table, int width,
                              const int32_t *rows, const uint16_t *weights, int32_t *sums) {
    int x = 0;
    (void)whole;
#if defined(__AVX2__)
    if (outputs == 16 && corners == 5 && whole < 32768) {
        for (; x < width; ++x) {
            __m256i row[5];
            for (int k = 0; k < 5; ++k) {
                row[k] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(table + (ptrdiff_t)rows[k * width + x] * 16)));
            }
            const __m256i w01 = _mm256_set1_epi32((int32_t)(weights[x] | (uint32_t)weights[width + x] << 16));
            const __m256i w23 = _mm256_set1_epi32((int32_t)(weights[2 * width + x] | (uint32_t)weights[3 * width + x] << 16));
            const __m256i w4 = _mm256_set1_epi32(weights[4 * width + x]), zero = _mm256_setzero_si256();
            __m256i low = _mm256_madd_epi16(w01, _mm256_unpacklo_epi16(row[0], row[1]));
            __m256i high = _mm256_madd_epi16(w01, _mm256_unpackhi_epi16(row[0], row[1]));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(w23, _mm256_unpacklo_epi16(row[2], row[3])));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(w23, _mm256_unpackhi_epi16(row[2], row[3])));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(w4, _mm256_unpacklo_epi16(row[4], zero)));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(w4, _mm256_unpackhi_epi16(row[4], zero)));
            __m256i *to = (__m256i *)(sums + (ptrdiff_t)x * 16);
            const __m256i first = _mm256_permute2x128_si256(low, high, 0x20), second = _mm256_permute2x128_si256(low, high, 0x31);
            _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), first));
            _mm256_storeu_si256(to + 1, _mm256_add_epi32(_mm256_loadu_si256(to + 1), second));
        }
    }
#elif defined(__ARM_NEON)
    if (outputs == 16 && whole < 32768) {
        for (; x < width; ++x) {
            int32_t *to = sums + (ptrdiff_t)x * 16;
            int32x4_t sum[4] = {vld1q_s32(to), vld1q_s32(to + 4), vld1q_s32(to + 8), vld1q_s32(to + 12)};
            for (int k = 0; k < corners; ++k) {
                const int8x16_t t = vld1q_s8(table + (ptrdiff_t)rows[k * width + x] * 16);
                const int16x8_t low = vmovl_s8(vget_low_s8(t)), high = vmovl_s8(vget_high_s8(t));
                const int16x4_t w = vdup_n_s16((int16_t)weights[k * width + x]);
                sum[0] = vmlal_s16(sum[0], vget_low_s16(low), w);
                sum[1] = vmlal_s16(sum[1], vget_high_s16(low), w);
                sum[2] = vmlal_s16(sum[2], vget_low_s16(high), w);
                sum[3] = vmlal_s16(sum[3], vget_high_s16(high), w);
            }
            for (int k = 0; k < 4; ++k) vst1q_s32(to + 4 * k, sum[k]);
        }
    }
#endif
    for (; x < width; ++x) {
        for (int k = 0; k < corners; ++k) {
            const int8_t *from = table + (ptrdiff_t)rows[k * width + x] * outputs;
            const int32_t weight = weights[k * width + x];
            for (int o = 0; o < outputs; ++o) sums[(ptrdiff_t)x * outputs + o] += weight * from[o];
        }
    }
}

/* As ep_planes. */
EP_INLINE void ep_planes_wide(int outputs, int rotations, int32_t divisor, int32_t bias, int width, const int32_t *sums,
                              int output, uint8_t *to) {
    for (int x = 0; x < width; ++x) {
        int32_t sum = 0;
        for (int q = 0; q < rotations; ++q) sum += sums[((ptrdiff_t)q * width + x) * outputs + output];
        to[x] = ep_settle(sum, divisor, bias);
    }
}

/* As ep_blocks. */
EP_INLINE void ep_blocks_wide(int scale, int rotations, int32_t divisor, int32_t bias, int width, const int32_t *sums,
                              uint8_t *out, size_t stride) {
    const int outputs = scale * scale, last = scale - 1;
    for (int x = 0; x < width; ++x) {
        for (int a = 0; a < scale; ++a) {
            for (int b = 0; b < scale; ++b) {
                const int32_t *from = sums + (ptrdiff_t)x * outputs;
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
