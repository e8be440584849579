"""Models as users bring them: checkpoints, Python files, ONNX files."""

import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from compress import source
from compress.network import Network


@pytest.fixture
def resolve() -> Callable[..., Network]:
    """``resolve("span.pth", scale=2)``: the network, as the command line would get it."""
    return lambda model, **given: source.resolve(source.Request(str(model), **given))


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``write_module("nets", "...")``: a Python file that can be imported during the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    written: list[str] = []

    def write(name: str, text: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        monkeypatch.delitem(sys.modules, name, raising=False)
        written.append(name)
        return path

    yield write
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def save_onnx(tmp_path: Path) -> Callable[..., Path]:
    """``save_onnx(nodes, ...)``: an ONNX file of nodes that lead from ``image`` to ``out``; else one convolution."""
    onnx = pytest.importorskip("onnx")
    helper, tensor = onnx.helper, onnx.TensorProto

    def save(
        nodes: Sequence[object] | None = None,
        shape: Sequence[int | str | None] = (1, 3, "height", "width"),
        constants: dict[str, np.ndarray] | None = None,
        opset: int = 18,
        **other: object,
    ) -> Path:
        kernel = np.random.default_rng(0).normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32)
        given = {"kernel": kernel} if constants is None else constants
        nodes = nodes or [helper.make_node("Conv", ["image", "kernel"], ["out"], pads=[1, 1, 1, 1])]
        image = helper.make_tensor_value_info("image", other.get("kind", tensor.FLOAT), shape)
        output = helper.make_tensor_value_info("out", tensor.FLOAT, None)
        initial = [onnx.numpy_helper.from_array(value, name) for name, value in given.items()]
        graph = helper.make_graph(nodes, "g", [image, *other.get("inputs", ())], [output], initial)
        domains = {"": opset, **{node.domain: 1 for node in nodes if node.domain}}
        imports = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8 if opset > 6 else 3)
        path = tmp_path / other.get("name", "net.onnx")
        path.parent.mkdir(exist_ok=True)
        external = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
        onnx.save(model, str(path), **(external if other.get("external") else {}))
        return path

    return save
