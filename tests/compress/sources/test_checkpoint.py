"""A checkpoint alone as the model: recognised by its tensors, never executed, and what others are told."""

import os
import pickle
import re
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from compress import zoo
from compress.errors import UsageError, WeightsError
from compress.network import RESTORATION, SUPER_RESOLUTION
from compress.spandrel_families import Member, state_of
from compress.weights import write

SPAN = {"channels": 8}
COMPACT = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_conv": 2, "upscale": 2}


@pytest.fixture
def span_file(tmp_path):
    """A function that saves a small SPAN with some tensors changed (None: left out)."""
    state = zoo.fresh("span", **SPAN).module.state_dict()

    def save(name="span.safetensors", **changes):
        changed = {k: v for k, v in {**state, **changes}.items() if v is not None}
        if name.endswith(".safetensors"):
            write(tmp_path / name, changed, {})
        else:
            torch.save(changed, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def foreign_file(tmp_path):
    """A function that saves random weights of one of spandrel's architectures."""
    if find_spec("spandrel") is None:
        pytest.skip("spandrel is not installed")

    def save(name, drop=(), **arguments):
        state = state_of(Member(name, f"spandrel.architectures.{name}", name, arguments))
        write(tmp_path / f"{name}.safetensors", {k: v for k, v in state.items() if k not in drop}, {})
        return tmp_path / f"{name}.safetensors"

    return save


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt", "w.ckpt"])
def test_a_network_of_the_zoo_is_recognised(span_file, resolve, name):
    network = resolve(span_file(name))
    assert (network.name, network.scale, network.task) == ("span", 4, SUPER_RESOLUTION)
    assert network.weights.path.name == name and not network.weights.builtin
    x, given = torch.rand(1, 3, 9, 11), zoo.fresh("span", **SPAN).module
    with torch.inference_mode():
        assert torch.equal(network.module(x), given(x))


def test_wrappers_of_training_code_are_seen_through(tmp_path, resolve):
    state = {f"module.{k}": v for k, v in zoo.fresh("dncnn", width=8).module.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, tmp_path / "w.pth")
    assert (resolve(tmp_path / "w.pth").name, resolve(tmp_path / "w.pth").task) == ("dncnn", RESTORATION)


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".th"])
@pytest.mark.parametrize("zipped", [True, False], ids=["torch-save", "plain-pickle"])
def test_a_pickle_with_code_is_refused_and_nothing_in_it_is_executed(tmp_path, resolve, suffix, zipped):
    path, trace = tmp_path / f"w{suffix}", tmp_path / "executed"
    content = {"conv_1.weight": torch.zeros(1), "extra": _Evil(trace)}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps({"params": _Evil(trace)}, protocol=2))
    with pytest.raises(WeightsError, match=rf"w\{suffix}: the pickle holds more than plain tensors.*was not executed"):
        resolve(path)
    assert not trace.exists()
    torch.load(path, weights_only=False) if zipped else pickle.loads(path.read_bytes())
    assert trace.exists(), "the trap works"


@pytest.mark.parametrize("keep", [0, 4, 100, -20])
def test_a_cut_file_is_named(span_file, resolve, keep):
    path = span_file()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"span\.safetensors: not a readable safetensors file .*fetch it again"):
        resolve(path)


def test_a_missing_file_is_named(tmp_path, resolve):
    with pytest.raises(WeightsError, match=r"none\.pth: no such file; give a \.safetensors or \.pth file"):
        resolve(tmp_path / "none.pth")


def test_missing_extra_and_wrongly_shaped_tensors_are_listed(span_file, resolve):
    path = span_file(**{"conv_cat.bias": None, "odd": torch.zeros(2), "block_3.c1_r.sk.bias": torch.zeros(3)})
    with pytest.raises(WeightsError) as caught:
        resolve(path)
    message = str(caught.value)
    assert "missing: conv_cat.bias;" in message and "unexpected: odd;" in message
    assert "wrong shape: block_3.c1_r.sk.bias (found (3,), expected (8,))" in message


def test_at_most_ten_of_each_are_listed(span_file, resolve):
    path = span_file(**{f"odd.{n:02d}": torch.zeros(1) for n in range(30)})
    with pytest.raises(WeightsError, match=r"unexpected: odd\.00, .*odd\.09 and 20 more;") as caught:
        resolve(path)
    assert len(re.findall(r"odd\.\d\d", str(caught.value))) == 10


def test_values_that_are_not_finite_are_named_at_most_ten(span_file, resolve):
    state = zoo.fresh("span", **SPAN).module.state_dict()
    bad = {k: torch.full_like(v, float("nan")) for k, v in list(state.items())[:14]}
    with pytest.raises(WeightsError, match=r"NaN or infinite values in .* and 4 more; the training run broke"):
        resolve(span_file(**bad))
    (name,) = [k for k in state if k == "conv_cat.bias"]
    with pytest.raises(WeightsError, match=r"NaN or infinite values in conv_cat\.bias;"):
        resolve(span_file(**{name: torch.full_like(state[name], float("inf"))}))


def test_a_checkpoint_that_nobody_recognises_names_the_closest(span_file, resolve, tmp_path):
    if find_spec("spandrel") is None:
        pytest.skip("spandrel is not installed")
    write(tmp_path / "w.safetensors", nn.LSTM(3, 4).state_dict(), {})
    with pytest.raises(WeightsError, match=r"neither the zoo nor spandrel knows the architecture; found 4 tensors"):
        resolve(tmp_path / "w.safetensors")
    near = span_file(**{"conv_cat.weight": None, "conv_cat.bias": None})
    with pytest.raises(WeightsError) as caught:
        resolve(near)
    closest = str(caught.value).split("closest by tensor names: ")[1]
    assert re.match(r"(span|SPAN) \(\d+% of its telling tensors\), ", closest)
    assert "span (75% of its telling tensors)" in closest
    assert "--model package.module:factory --weights FILE" in closest


def test_another_scale_than_the_files_is_refused(span_file, resolve):
    assert resolve(span_file(), scale=4).scale == 4
    with pytest.raises(WeightsError, match=r"span\.safetensors are for scale 4, --scale asks for 2"):
        resolve(span_file(), scale=2)


@pytest.mark.parametrize("given", [{"random": True}, {"arguments": {"channels": "8"}}])
def test_flags_that_make_no_sense_with_a_checkpoint_are_refused(span_file, resolve, given):
    with pytest.raises(UsageError, match=r"span\.safetensors is a checkpoint already; drop --weights, --random"):
        resolve(span_file(), **given)
    with pytest.raises(UsageError, match="is a checkpoint already; drop --weights"):
        resolve(span_file(), weights=span_file())


def test_a_checkpoint_of_spandrels_is_recognised_by_it(foreign_file, resolve):
    path = foreign_file("Compact", **COMPACT)
    network = resolve(path)
    assert (network.name, network.scale, network.channels, network.task) == ("compact", 2, 3, SUPER_RESOLUTION)
    assert (network.unit, network.input_size, network.classes) == (1, None, None)
    assert network.weights.path == path and len(network.weights.sha256) == 64
    assert not network.module.training
    x = torch.rand(1, 3, 9, 12)
    with torch.inference_mode():
        assert network.module(x).shape == (1, 3, 18, 24)
        assert torch.equal(network.module(x), resolve(path).module(x))
    with pytest.raises(WeightsError, match="are for scale 2, --scale asks for 4; drop --scale"):
        resolve(path, scale=4)


def test_a_larger_one_of_spandrels_too(foreign_file, resolve):
    network = resolve(foreign_file("ESRGAN", in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=4))
    assert (network.name, network.scale, network.task) == ("esrgan", 4, SUPER_RESOLUTION)
    with torch.inference_mode():
        assert network.module(torch.rand(1, 3, 9, 12)).shape == (1, 3, 36, 48)


def test_one_that_spandrel_recognises_and_cannot_load_says_what_is_wrong(foreign_file, resolve):
    path = foreign_file("Compact", drop=("body.2.bias",), **COMPACT)
    with pytest.raises(WeightsError, match=r"spandrel recognises the architecture but cannot load it .*body\.2\.bias"):
        resolve(path)


def test_grey_networks_of_spandrels_keep_their_channel(foreign_file, resolve):
    network = resolve(foreign_file("DnCNN", in_nc=1, out_nc=1, nc=8, nb=4, act_mode="R"))
    assert (network.channels, network.scale, network.task) == (1, 1, RESTORATION)
