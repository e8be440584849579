"""The roofline of a sequence, one operator after the other, with plain numbers."""

import math


def milliseconds(line, operators, weight_bytes, number_bytes):
    dense = {"conv", "pointwise", "transposed", "volumetric", "linear"}
    heavy = {"activation", "normalise", "softmax"}
    microseconds = line.fixed_us
    for op in operators:
        if op.kind in dense:
            blocks_in, blocks_out = (
                math.ceil(op.channels_in / line.align_in),
                math.ceil(op.channels_out / line.align_out),
            )
            wasted = blocks_in * line.align_in * blocks_out * line.align_out / (op.channels_in * op.channels_out)
            compute = op.macs * wasted / (line.dense_gmacs * 1e9)
        elif op.kind in ("depthwise", "grouped", "matmul"):
            rates = {"depthwise": line.depthwise_gmacs, "grouped": line.grouped_gmacs, "matmul": line.product_gmacs}
            compute = op.macs / (rates[op.kind] * 1e9)
        elif op.kind == "concat":
            compute = op.read / (line.concat_gnumbers * 1e9)
        else:
            compute = op.read / ((line.complex_gnumbers if op.kind in heavy else line.vector_gnumbers) * 1e9)
        moved = (op.read + op.written) * number_bytes
        memory = op.weights * weight_bytes / (line.weight_gbytes * 1e9)
        memory += 0 if op.kind == "concat" else moved / (line.on_chip_gbytes * 1e9)
        memory += max(0, moved - line.on_chip_mbytes * 1e6) / (line.off_chip_gbytes * 1e9)
        microseconds += line.launch_us + max(compute, memory) * 1e6
    return microseconds / 1e3


def ranks(values):
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


def spearman(one, two):
    a, b = ranks(one), ranks(two)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    above = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    below = sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)
    return above / below**0.5
