"""Networks of one-dimensional look-up tables: what they are, their engines, C source."""
