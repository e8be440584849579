"""What only TFLite does: int8 at its ends, and networks whose file holds its size."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from export import formats
from export.artifact import ExportSpec, Image
from export.parity import compare
from export.torch_session import TorchSession


def test_an_int8_file_takes_and_gives_int8(plain_file: Callable[..., Path]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(plain_file("tflite", "int8")))
    for details in (interpreter.get_input_details()[0], interpreter.get_output_details()[0]):
        assert details["dtype"] == np.int8
        assert details["quantization"][0] > 0


def test_the_declared_size_is_the_one_asked_for(plain_file: Callable[..., Path]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    for dtype in ("float32", "int8"):
        shape = Interpreter(str(plain_file("tflite", dtype))).get_input_details()[0]["shape"]
        assert shape.tolist() == [1, 16, 20, 3]


def test_a_network_that_holds_its_size_is_calibrated_with_crops_of_another(
    averaging: nn.Module,
    make_spec: Callable[..., ExportSpec],
    picture: Callable[..., Image],
    tmp_path: Path,
) -> None:
    spec = make_spec(averaging, "int8", 2, None, calibration=[picture(12, 32, seed) for seed in range(4)])
    artifact = formats.write("tflite", spec, tmp_path, "averaging")
    session, image = formats.open_file(artifact.path(tmp_path), 1), picture(16, 20, seed=9)
    assert session.input_size == (16, 20)
    assert formats.read_card(artifact.path(tmp_path)) == replace(spec.card, fixed_size=True)
    parity = compare(session.run(image), TorchSession(averaging).run(image))
    assert parity.psnr_db > 40  # measured: 56


def test_values_outside_the_calibrated_range_saturate(
    plain_file: Callable[..., Path], picture: Callable[..., Image]
) -> None:
    session, image = formats.open_file(plain_file("tflite", "int8"), 1), picture(16, 20)
    image[0, 0], image[8, 8] = 50.0, -50.0
    edge = np.clip(image, -1.0, 2.0)  # beyond what was seen in calibration, [0, 1]
    assert np.array_equal(session.run(image), session.run(edge))
