/* Networks of one-dimensional tables of 64 entries: rows in, rows out.  Values -32..31 are kept as the places 0..63 in
   the tables.  Rows are worked on in whole vectors: behind an image's width stands what nobody reads. */

/* The mean over some tables of what stands at each pixel's places; table k begins at tables + k * stride. */
EP_INLINE ep_bytes ep_means(int count, const uint8_t *const *places, int x, const int8_t *tables, ptrdiff_t stride) {
    ep_sums sums = ep_none();
    for (int k = 0; k + 1 < count; k += 2) {
        sums = ep_add(sums, ep_found(tables + k * stride, places[k] + x), ep_found(tables + (k + 1) * stride, places[k + 1] + x));
    }
    if (count % 2) sums = ep_add(sums, ep_found(tables + (count - 1) * stride, places[count - 1] + x), ep_all(0));
    return ep_mean(sums, count);
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

static void ep_first(const ep_state *s, int quarter, int y) {
    const uint8_t *high[9], *low[9];
    uint8_t *to[EP_CHANNELS];
    ep_window(s, -1, quarter, 0, y, high);
    ep_window(s, -1, quarter, 1, y, low);
    for (int o = 0; o < EP_CHANNELS; ++o) to[o] = ep_row(s, 0, quarter, o, y);
    for (int x = 0; x < s->width; x += EP_LANES) {
        for (int o = 0; o < EP_CHANNELS; ++o) {
            const ep_bytes of_low = ep_means(9, low, x, s->low + o * 64, EP_CHANNELS * 64);
            const ep_bytes of_high = ep_means(9, high, x, s->tables[0] + o * 64, EP_CHANNELS * 64);
            const ep_bytes lows = ep_clamp(ep_plus(of_low, ep_load(low[4] + x)), 0, 3);
            ep_store(to[o] + x, ep_clamp(ep_plus(ep_plus(ep_load(high[4] + x), lows), of_high), 0, 63));
        }
    }
    for (int o = 0; o < EP_CHANNELS; ++o) ep_margins(to[o], s->width);
}

static void ep_depthwise(const ep_state *s, int layer, int quarter, int y) {
    const uint8_t *places[9];
    for (int c = 0; c < EP_CHANNELS; ++c) {
        uint8_t *to = ep_row(s, layer, quarter, c, y);
        ep_window(s, layer - 1, quarter, c, y, places);
        for (int x = 0; x < s->width; x += EP_LANES) {
            const ep_bytes mean = ep_means(9, places, x, s->tables[layer] + c * 64, EP_CHANNELS * 64);
            ep_store(to + x, ep_clamp(ep_plus(mean, ep_load(places[4] + x)), 0, 63));
        }
        ep_margins(to, s->width);
    }
}

EP_INLINE void ep_moved(const ep_state *s, int layer, int quarter, int y, const uint8_t **places) {
    for (int c = 0; c < EP_CHANNELS; ++c) {
        int row = ep_shifts[layer][c][0], column = ep_shifts[layer][c][1];
        ep_rotate(quarter, &row, &column);
        places[c] = ep_row(s, layer - 1, quarter, c, y + row) + column;
    }
}

static void ep_pointwise(const ep_state *s, int layer, int quarter, int y) {
    const uint8_t *places[EP_CHANNELS];
    uint8_t *to[EP_CHANNELS];
    ep_moved(s, layer, quarter, y, places);
    for (int o = 0; o < EP_CHANNELS; ++o) to[o] = ep_row(s, layer, quarter, o, y);
    for (int x = 0; x < s->width; x += EP_LANES) {
        for (int o = 0; o < EP_CHANNELS; ++o) {
            const ep_bytes mean = ep_means(EP_CHANNELS, places, x, s->tables[layer] + o * 64, EP_CHANNELS * 64);
            ep_store(to[o] + x, ep_clamp(ep_plus(mean, ep_load(places[o] + x)), 0, 63));
        }
    }
    for (int o = 0; o < EP_CHANNELS; ++o) ep_margins(to[o], s->width);
}

/* The last layer: a rotation's share of each of a pixel's outputs. */
static void ep_share(const ep_state *s, int quarter, int y) {
    const int outputs = EP_SCALE * EP_SCALE;
    const uint8_t *places[EP_CHANNELS];
    int8_t *to = s->outs + (size_t)(quarter * outputs) * s->pitch;
    ep_moved(s, EP_LAYERS - 1, quarter, y, places);
    for (int x = 0; x < s->width; x += EP_LANES) {
        for (int o = 0; o < outputs; ++o) {
            ep_bytes mean = ep_means(EP_CHANNELS, places, x, s->tables[EP_LAYERS - 1] + o * 64, outputs * 64);
            if (EP_JOINED) mean = ep_plus(mean, ep_plus(ep_load(places[o % EP_CHANNELS] + x), ep_all(-32)));
            ep_store(to + (size_t)o * s->pitch + x, mean);
        }
    }
}

/* The four rotations' shares, turned back and added up, as pixels. */
static void ep_finish(const ep_state *s, uint8_t *out, size_t stride) {
    const int last = EP_SCALE - 1, width = s->width;
    const size_t pitch = s->pitch, next = (size_t)(EP_SCALE * EP_SCALE) * pitch;
    const uint8_t *pixels = s->pixels;
    for (int a = 0; a < EP_SCALE; ++a) {
        uint8_t *restrict row = out + (size_t)a * stride;
        for (int b = 0; b < EP_SCALE; ++b) {
            const int8_t *p = s->outs + (size_t)(a * EP_SCALE + b) * pitch;
            const int8_t *q = s->outs + next + (size_t)((last - b) * EP_SCALE + a) * pitch;
            const int8_t *r = s->outs + 2 * next + (size_t)((last - a) * EP_SCALE + last - b) * pitch;
            const int8_t *t = s->outs + 3 * next + (size_t)(b * EP_SCALE + last - a) * pitch;
            uint8_t *restrict to = s->pixels + (size_t)b * pitch;
            for (int x = 0; x < width; ++x) to[x] = (uint8_t)ep_between(p[x] + q[x] + r[x] + t[x] + 128, 0, 255);
        }
        for (int x = 0; x < width; ++x) {
            for (int b = 0; b < EP_SCALE; ++b) row[x * EP_SCALE + b] = pixels[(size_t)b * pitch + (size_t)x];
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
    return 9 * EP_CHANNELS * 64 + (EP_ROWS + 4 * EP_SCALE * EP_SCALE + EP_SCALE) * pitch + 64;
}

int @NAME@_start_part(@NAME@_state *s, void *memory, int width, int height, int first, int last) {
    if (width < 1 || height < 1 || width > 32768 || height > 32768 || first < 0 || last > height || first >= last) return -1;
    s->width = width;
    s->height = height;
    s->first = first;
    s->last = last;
    s->pitch = ep_whole(width) + 2 * EP_MARGIN;
    s->low = (int8_t *)memory + (64 - (uintptr_t)memory % 64) % 64;
    s->rows = (uint8_t *)s->low + 9 * EP_CHANNELS * 64;
    s->outs = (int8_t *)s->rows + EP_ROWS * s->pitch;
    s->pixels = (uint8_t *)s->outs + 4 * EP_SCALE * EP_SCALE * s->pitch;
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
            else if (k == EP_LAYERS - 1) ep_share(s, quarter, s->next[k]);
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
