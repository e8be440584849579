"""Ways to judge networks, one module each, found by being there."""
