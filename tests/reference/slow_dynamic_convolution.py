"""The dynamic depthwise convolution written out, pixel by pixel (arXiv:2301.02031, equation 3).

The indices are those of the CUDA kernel of NeonLeexiang/DLGSANet (``idynamic_forward_kernel``).
"""

from torch import Tensor


def dynamic_convolution(x: Tensor, kernels: Tensor, side: int) -> Tensor:
    """(N, C, H, W) with kernels (N, G*side*side, H, W): channel c uses kernel c // (C/G) of its pixel."""
    batch, channels, height, width = x.shape
    groups = kernels.shape[1] // side**2
    out = x.new_zeros(x.shape)
    for n in range(batch):
        for c in range(channels):
            g = c // (channels // groups)
            for h in range(height):
                for w in range(width):
                    for i in range(side):
                        for j in range(side):
                            y, z = h + i - side // 2, w + j - side // 2
                            if 0 <= y < height and 0 <= z < width:
                                out[n, c, h, w] += kernels[n, (g * side + i) * side + j, h, w] * x[n, c, y, z]
    return out
