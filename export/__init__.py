"""Model → file → the same numbers again: one module a format, parity, tiling, timing."""
