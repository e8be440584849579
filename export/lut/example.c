/* A PGM picture from stdin, enlarged row by row, to stdout. */
#include "@NAME@.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    int width, height, most;
    if (scanf("P5 %9d %9d %9d", &width, &height, &most) != 3 || most != 255 || !isspace(getchar())) return 2;
    if (width < 1 || height < 1 || width > 32768 || height > 32768) return 2;
    const size_t wide = (size_t)width * @UPPER@_SCALE;
    unsigned char *row = malloc((size_t)width), *out = malloc(wide * @UPPER@_SCALE);
    void *memory = malloc(@NAME@_memory(width));
    @NAME@_state state;
    if (!row || !out || !memory || @NAME@_start(&state, memory, width, height) < 0) return 3;
    printf("P5\n%d %d\n255\n", width * @UPPER@_SCALE, height * @UPPER@_SCALE);
    for (int y = 0; y < height; ++y) {
        if (fread(row, 1, (size_t)width, stdin) != (size_t)width) return 4; /* the picture ends too early */
        @NAME@_push(&state, row);
        while (@NAME@_pull(&state, out, wide)) fwrite(out, 1, wide * @UPPER@_SCALE, stdout);
    }
    free(row), free(out), free(memory);
    return fflush(stdout) != 0;
}
