"""Rewrites of ONNX files that change no value and that kernels gain from."""

from __future__ import annotations

from pathlib import Path

__all__ = ["drop_notes", "sums_for_differences"]

_FLOAT = 1


def drop_notes(path: Path) -> None:
    """Take out what torch's exporter says of each operator's place in the source: most of a graph without weights."""
    import onnx

    model = onnx.load(str(path))
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.save(model, str(path))


def sums_for_differences(path: Path) -> int:
    """Let ``x - constant`` be ``x + (-constant)``: onnxruntime has an int8 kernel for the sum, not for the difference.

    Returns:
        How many operators were changed; the file is written anew if any were.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path))
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == _FLOAT}
    changed = [node for node in graph.node if node.op_type == "Sub" and node.input[1] in constants]
    names = {name: f"{name}_negative" for name in sorted({node.input[1] for node in changed})}
    for name, negative in names.items():
        graph.initializer.append(numpy_helper.from_array(-numpy_helper.to_array(constants[name]), negative))
    for node in changed:
        node.op_type = "Add"
        node.input[1] = names[node.input[1]]
    read = {name for node in graph.node for name in node.input}
    for name in names:
        if name not in read:
            graph.initializer.remove(constants[name])
    if changed:
        onnx.save(model, str(path))
    return len(changed)
