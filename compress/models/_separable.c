/* Sums over one-dimensional tables, and their gradients: what _separable_sums.py computes in torch, in one pass each.

   Images x are uint8 (images, h + 2*m, w + 2*m, c), levels below `levels`; out is float (images, h, w, o).  A table's
   entry stands at [number][level][output].  Gradients are added to to_entries and, in x's layout, to to_x; slopes, laid
   out as the entries, are the tables' derivatives. */

#include <stdint.h>

#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

typedef struct {
    int h, w, c, levels, o;
} sizes;

static inline __attribute__((always_inline)) void add(float *to, const float *from, int o) {
    INDEPENDENT
    for (int j = 0; j < o; ++j) to[j] += from[j];
}

static inline __attribute__((always_inline)) float add_and_dot(float *to, const float *g, const float *slope, int o) {
    float sum = 0;
    for (int j = 0; j < o; ++j) {
        to[j] += g[j];
        sum += g[j] * slope[j];
    }
    return sum;
}

/* Every channel by its own tables: out[o] = sum over c of table c's row. */
void ep_mix(const uint8_t *x, const float *entries, const sizes *s, long first, long last, float *out) {
    const long pixels = (long)s->h * s->w;
    for (long i = first * pixels; i < last * pixels; ++i) {
        float sum[64] = {0};
        for (int k = 0; k < s->c; ++k) {
            const float *row = entries + ((long)k * s->levels + x[i * s->c + k]) * s->o;
            if (s->o == 16) add(sum, row, 16); else add(sum, row, s->o);
        }
        for (int j = 0; j < s->o; ++j) out[i * s->o + j] = sum[j];
    }
}

void ep_mix_back(const uint8_t *x, const float *slopes, const float *g, const sizes *s, long first, long last,
                 float *to_entries, float *to_x) {
    const long pixels = (long)s->h * s->w;
    for (long i = first * pixels; i < last * pixels; ++i) {
        for (int k = 0; k < s->c; ++k) {
            const long row = ((long)k * s->levels + x[i * s->c + k]) * s->o;
            const float *given = g + i * s->o;
            to_x[i * s->c + k] = s->o == 16 ? add_and_dot(to_entries + row, given, slopes + row, 16)
                                            : add_and_dot(to_entries + row, given, slopes + row, s->o);
        }
    }
}

/* The 3 x 3 window of each channel by the tables of that channel; of a single channel, by those of every output. */
void ep_window(const uint8_t *x, const float *entries, const sizes *s, long first, long last, float *out) {
    const int pitch = s->w + 2, o = s->o, spread = s->c == 1;
    for (long n = first; n < last; ++n)
        for (int y = 0; y < s->h; ++y)
            for (int column = 0; column < s->w; ++column) {
                float sum[64] = {0};
                for (int t = 0; t < 9; ++t) {
                    const uint8_t *v = x + ((n * (s->h + 2) + y + t / 3) * pitch + column + t % 3) * s->c;
                    const float *table = entries + (long)t * s->levels * o;
                    if (spread) {
                        if (o == 16) add(sum, table + v[0] * 16, 16); else add(sum, table + v[0] * o, o);
                    } else {
                        INDEPENDENT
                        for (int j = 0; j < o; ++j) sum[j] += table[v[j] * o + j];
                    }
                }
                float *to = out + ((n * s->h + y) * s->w + column) * o;
                for (int j = 0; j < o; ++j) to[j] = sum[j];
            }
}

void ep_window_back(const uint8_t *x, const float *slopes, const float *g, const sizes *s, long first, long last,
                    float *to_entries, float *to_x) {
    const int pitch = s->w + 2, o = s->o, spread = s->c == 1;
    for (long n = first; n < last; ++n)
        for (int y = 0; y < s->h; ++y)
            for (int column = 0; column < s->w; ++column) {
                const float *given = g + ((n * s->h + y) * s->w + column) * o;
                for (int t = 0; t < 9; ++t) {
                    const long place = ((n * (s->h + 2) + y + t / 3) * pitch + column + t % 3) * s->c;
                    const long table = (long)t * s->levels * o;
                    if (spread) {
                        const long row = table + x[place] * o;
                        to_x[place] += add_and_dot(to_entries + row, given, slopes + row, o);
                    } else {
                        INDEPENDENT
                        for (int j = 0; j < o; ++j) {
                            const long at = table + x[place + j] * o + j;
                            to_entries[at] += given[j];
                            to_x[place + j] += slopes[at] * given[j];
                        }
                    }
                }
            }
}
