"""Images: reading and writing them, the MATLAB bicubic, folders, the built-in photographs, training crops."""
