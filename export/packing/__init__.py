"""Small files out of files with many zeros: positions and values coded apart, every byte given back."""
