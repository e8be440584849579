/* Which row of which stage comes next; the planes' rows live in rings. */

EP_INLINE int ep_least(int a, int b) { return a < b ? a : b; }

static int ep_ready(const ep_state *s, int stage) {
    const int y = s->next[stage];
    int need;
    switch (stage) {
@READY@
        default: return 0;
    }
}

static void (*const ep_calls[@STAGES@])(ep_state *, int, uint8_t *, size_t) = @CALLS@;
static const int ep_later[@STAGES@] = @LATER@;

static int ep_end(const ep_state *s, int stage) {
    return ep_least(s->last + ep_later[stage], s->height);
}

size_t @NAME@_memory(int width) {
    const size_t w = width < 1 ? 1 : (size_t)width;
    const size_t planes = (size_t)EP_PLANES * EP_RING * (w + 2 * EP_MARGIN);
    return (sizeof(int32_t) * @CORNERS@ + @SUMS@ + sizeof(uint16_t) * @VALUES@ + sizeof(@WEIGHT@) * @CORNERS@) * w + planes;
}

int @NAME@_start_part(@NAME@_state *s, void *memory, int width, int height, int first, int last) {
    if (width < 1 || height < 1 || width > 32768 || height > 32768 || first < 0 || last > height || first >= last) return -1;
    s->rows = (int32_t *)memory;
    s->sums = s->rows + (size_t)width * @CORNERS@;
    s->values = (uint16_t *)(void *)((char *)s->sums + (size_t)width * @SUMS@);
    s->weights = s->values + (size_t)width * @VALUES@;
    s->planes = (uint8_t *)s->weights + (size_t)width * @CORNERS@ * sizeof(@WEIGHT@);
    s->pitch = (size_t)width + 2 * EP_MARGIN;
    s->tables = EP_TABLES;
    s->width = width;
    s->height = height;
    s->first = first;
    s->last = last;
    for (int k = 0; k < @STAGES@; ++k) s->next[k] = first > ep_later[k] ? first - ep_later[k] : 0;
    s->pushed = first > @HALO@ ? first - @HALO@ : 0;
    return s->pushed;
}

int @NAME@_start(@NAME@_state *s, void *memory, int width, int height) {
    return @NAME@_start_part(s, memory, width, height, 0, height);
}

void @NAME@_push(@NAME@_state *s, const uint8_t *row) {
    uint8_t *to = ep_place(s, 0, s->pushed);
    memcpy(to, row, (size_t)s->width);
    ep_margins(to, s->width, ep_mirrored(s, @FIRST_REACH@));
    ++s->pushed;
}

int @NAME@_pull(@NAME@_state *s, uint8_t *out, size_t stride) {
    for (int k = 0; k < @STAGES@; ++k) {
        while (s->next[k] < ep_end(s, k) && ep_ready(s, k)) {
            ep_calls[k](s, s->next[k], out, stride);
            ++s->next[k];
            if (k == @STAGES@ - 1) return 1;
        }
    }
    return 0;
}

int @NAME@_part(const uint8_t *image, size_t stride, int width, int height, int first, int last, uint8_t *out,
               size_t out_stride, void *memory@GIVEN@) {
    @NAME@_state s;
    int y = @NAME@_start_part(&s, memory, width, height, first, last);
    if (y < 0) return -1;
@TAKE@    for (; y < height && s.next[@STAGES@ - 1] < last; ++y) {
        @NAME@_push(&s, image + (size_t)y * stride);
        while (@NAME@_pull(&s, out, out_stride)) out += out_stride * @SCALE@;
    }
    return 0;
}
@WHOLE@