/* Interpolation between the nodes of a table, and its gradients: what _simplex.py computes in torch, in one pass. */

#include <stdint.h>

#define SWAP(a, b) if (key[a] < key[b]) { const int32_t kept = key[a]; key[a] = key[b]; key[b] = kept; }

/* One simplex: the rows and weights of the corners around n values, which are in 1/256 of a grey level. */
static void corners(const int32_t *values, int n, int bits, const int32_t *number, int32_t start, int32_t *rows,
                    float *weights, uint8_t *order) {
    const int32_t nodes = (256 >> bits) + 1, unit = 1 << (bits + 8);
    int32_t stride[4] = {0, 0, 0, 0}, key[4] = {-1, -1, -1, -1}, row = 0, before = unit;
    stride[n - 1] = 1;
    for (int t = n - 2; t >= 0; --t) stride[t] = stride[t + 1] * nodes;
    for (int t = 0; t < n; ++t) {
        row += (values[t] >> (bits + 8)) * stride[t];
        key[t] = (values[t] & (unit - 1)) << 2 | (3 - t); /* the earlier tap first among equals */
    }
    SWAP(0, 1) SWAP(2, 3) SWAP(0, 2) SWAP(1, 3) SWAP(1, 2)
    for (int k = 0; k <= n; ++k) {
        const int32_t fraction = k < n ? key[k] >> 2 : 0;
        rows[k] = start + (number ? number[row] : row);
        weights[k] = (float)(before - fraction) / (float)unit;
        before = fraction;
        if (k < n) {
            order[k] = (uint8_t)(3 - (key[k] & 3));
            if (fraction > 0) row += stride[order[k]]; /* a corner of no weight stays where the last one was */
        }
    }
}

/* For each of the points first..last-1: rows, weights, the order of the taps, and 1 for every row that is read.
   With a band (`number` not NULL) points within `width` nodes of the diagonal read its rows, all others the coarse
   table's, which begin at row `start`. */
void ep_locate(const int32_t *values, int n, int bits, int width, int coarse_bits, const int32_t *number, int32_t start,
               long first, long last, int32_t *rows, float *weights, uint8_t *order, uint8_t *coarse, uint8_t *seen) {
    for (long i = first; i < last; ++i) {
        const int32_t *v = values + i * n, limit = (int32_t)width << (bits + 8);
        int far = 0;
        for (int t = 1; number && t < n; ++t) far |= v[t] - v[0] > limit || v[0] - v[t] > limit;
        corners(v, n, far ? coarse_bits : bits, far ? 0 : number, far ? start : 0, rows + i * (n + 1),
                weights + i * (n + 1), order + i * n);
        coarse[i] = (uint8_t)far;
        for (int k = 0; k <= n; ++k) seen[rows[i * (n + 1) + k]] = 1;
    }
}

/* out (points, o) = the weighted sums of c rows of entries (rows, o). */
void ep_read(const int32_t *rows, const float *weights, const float *entries, int c, int o, long first, long last,
             float *out) {
    for (long i = first; i < last; ++i) {
        float sum[64] = {0};
        for (int k = 0; k < c; ++k) {
            const float *from = entries + (long)rows[i * c + k] * o, w = weights[i * c + k];
            if (o == 16) { for (int j = 0; j < 16; ++j) sum[j] += w * from[j]; }
            else { for (int j = 0; j < o; ++j) sum[j] += w * from[j]; }
        }
        for (int j = 0; j < o; ++j) out[i * o + j] = sum[j];
    }
}

/* From the gradient (points, o): adds to that of the entries, and gives that of the n = c - 1 values of each point. */
void ep_backward(const int32_t *rows, const float *weights, const uint8_t *order, const uint8_t *coarse,
                 const float *entries, const float *gradient, int c, int o, float unit, float coarse_unit, long first,
                 long last, float *to_entries, float *to_values) {
    for (long i = first; i < last; ++i) {
        const float *g = gradient + i * o;
        float along[5];
        for (int k = 0; k < c; ++k) {
            const long at = (long)rows[i * c + k] * o;
            const float w = weights[i * c + k];
            float sum = 0;
            if (o == 16) {
                for (int j = 0; j < 16; ++j) sum += g[j] * entries[at + j];
                for (int j = 0; j < 16; ++j) to_entries[at + j] += w * g[j];
            } else {
                for (int j = 0; j < o; ++j) sum += g[j] * entries[at + j];
                for (int j = 0; j < o; ++j) to_entries[at + j] += w * g[j];
            }
            along[k] = sum;
        }
        for (int k = 0; k < c - 1; ++k) {
            to_values[i * (c - 1) + order[i * (c - 1) + k]] = (along[k + 1] - along[k]) / (coarse[i] ? coarse_unit : unit);
        }
    }
}
