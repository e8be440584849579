"""Tiling at its most obvious: one window for each input pixel, everything within the halo and inside the image."""

import numpy as np


def enlarge(session, image, scale, halo):
    """Run the session once a pixel and keep that pixel's output."""
    height, width, channels = image.shape
    output = np.empty((height * scale, width * scale, channels), np.float32)
    for y in range(height):
        for x in range(width):
            top, left = max(0, y - halo), max(0, x - halo)
            window = session.run(image[top : y + halo + 1, left : x + halo + 1])
            for i in range(scale):
                for j in range(scale):
                    output[scale * y + i, scale * x + j] = window[scale * (y - top) + i, scale * (x - left) + j]
    return output


def times_kept(height, width, tiles):
    """How often each input pixel is kept, (height, width)."""
    count = np.zeros((height, width), int)
    for tile in tiles:
        for y in range(tile.keep_top, tile.keep_bottom):
            for x in range(tile.keep_left, tile.keep_right):
                count[y, x] += 1
    return count
