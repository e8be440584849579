"""Networks that are look-up tables: what they are, their file, and what runs them."""
