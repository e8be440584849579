"""Kinds of things that ``--model`` may name, one module each, found by being there."""
