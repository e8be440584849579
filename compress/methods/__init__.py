"""Compression methods, one file each; a file is found by being here."""
