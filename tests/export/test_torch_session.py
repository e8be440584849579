"""The network behind the door of the files."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from export.artifact import Image
from export.torch_session import TorchSession


def test_the_session_gives_the_modules_numbers(plain: nn.Module, picture: Callable[..., Image]) -> None:
    image = picture(9, 14)
    output = TorchSession(plain).run(image)
    with torch.inference_mode():
        expected = plain(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert np.array_equal(output, expected)
    assert output.dtype == np.float32
    assert output.flags.c_contiguous


def test_any_size_goes_and_prepare_runs_the_network(averaging: nn.Module, picture: Callable[..., Image]) -> None:
    session, image = TorchSession(averaging), picture(7, 5)
    assert session.input_size is None
    assert np.array_equal(session.prepare(image)(), session.run(image))


def test_dropout_is_off() -> None:
    session = TorchSession(nn.Dropout(0.9).train())
    ones = np.ones((8, 8, 3), np.float32)
    assert np.array_equal(session.run(ones), ones)
