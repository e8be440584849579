"""Networks of the zoo: loading, making fresh, recognising."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from compress import source, zoo
from compress.errors import UsageError, WeightsError
from compress.network import CLASSIFICATION, SUPER_RESOLUTION, Family, WeightsSource
from compress.registry import MODELS
from compress.weights import write


def test_a_network_with_built_in_weights_needs_no_file():
    network = zoo.load("span")
    assert network.weights.builtin and not network.weights.random
    assert zoo.load("span", scale=4).weights == network.weights


def test_a_network_without_built_in_weights_says_what_to_give():
    with pytest.raises(
        WeightsError, match=r"dncnn has no built-in weights: give --weights FILE, or --random to look at"
    ):
        zoo.load("dncnn")


def test_an_unknown_name_gets_the_nearest():
    for call in (zoo.load, zoo.fresh):
        with pytest.raises(UsageError, match=r"unknown model 'spam'; did you mean 'span'\?"):
            call("spam")


def test_fresh_values_follow_the_seed_and_leave_torchs_own_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    networks = [zoo.fresh("span", seed=seed, channels=8) for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    hashes = [n.weights.sha256 for n in networks]
    assert hashes[0] == hashes[1] != hashes[2]
    assert all(n.weights.random and n.weights.path is None for n in networks)


def test_a_scale_is_for_networks_that_enlarge():
    assert zoo.fresh("span", scale=2, channels=8).scale == 2
    assert zoo.fresh("mlperf-resnet8", scale=1).scale == 1
    for name in ("mlperf-resnet8", "dncnn"):
        with pytest.raises(UsageError, match=f"{name} does not enlarge images, --scale asks for 2; drop --scale"):
            zoo.fresh(name, scale=2)


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("span", {"width": 8}, r"model span: .*'width'"),
        ("span", {"channels": "wide"}, "model span: "),
        ("span", {"channels": -8}, "model span: "),
        ("mlperf-resnet8", {"classes": -1}, "model mlperf-resnet8: "),
    ],
)
def test_sizes_that_make_no_network_are_told(name, sizes, message):
    with pytest.raises(UsageError, match=message):
        zoo.fresh(name, **sizes)


def test_the_fingerprint_is_over_names_and_values():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    first = zoo.fingerprint(module)
    assert first == zoo.fingerprint(module) and len(first) == 64
    assert zoo.fingerprint(nn.ModuleDict({"a": module[0], "b": module[1]})) != first
    module[1].running_var[0] += 1e-3
    assert zoo.fingerprint(module) != first, "buffers count"


class Vector(nn.Module):
    """Attributes that a family reads off a module."""

    def __init__(self, **attributes):
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)


def test_the_contract_is_read_off_the_modules_attributes():
    family = Family("t", CLASSIFICATION, Vector, Vector, (), input_size=(96, 96), unit=2, crop_share=0.9)
    weights = WeightsSource(None, "0" * 64, builtin=False)
    plain = zoo.wrap("net", family, Vector(classes=5), weights)
    assert (plain.scale, plain.channels, plain.classes, plain.input_size) == (1, 3, 5, (96, 96))
    assert (plain.unit, plain.crop_share, plain.task, plain.weights) == (2, 0.9, CLASSIFICATION, weights)
    own = zoo.wrap("net", family, Vector(classes=5, channels=1, input_size=(28, 28)), weights)
    assert (own.channels, own.input_size) == (1, (28, 28))
    image = zoo.wrap("net", dataclasses.replace(family, task=SUPER_RESOLUTION), Vector(scale=3), weights)
    assert (image.scale, image.classes, image.input_size) == (3, None, None)


def test_marks_may_have_alternatives():
    family = Family("t", CLASSIFICATION, Vector, Vector, ("a|b", "c"))
    assert [family.recognises(dict.fromkeys(names)) for names in ("ac", "bc", "abc", "ab", "c", "")] == [
        True, True, True, False, False, False
    ]  # fmt: skip


def test_tensors_of_nobody_are_recognised_by_nobody():
    assert zoo.recognise({}) is None
    assert zoo.recognise(nn.LSTM(3, 4).state_dict()) is None


def resolve(model, **given):
    return source.resolve(source.Request(model, **given))


def test_a_name_resolves_to_random_values_on_request_only():
    network = resolve("dncnn", random=True, arguments={"width": "8"}, seed=3)
    assert network.weights.random
    assert network.weights.sha256 == zoo.fresh("dncnn", seed=3, width=8).weights.sha256
    with pytest.raises(WeightsError, match="--random"):
        resolve("dncnn")
    with pytest.raises(
        UsageError, match=r"--model-arg sets the sizes of a fresh network; with weights they are read off"
    ):
        resolve("span", arguments={"channels": "8"})


def test_given_weights_go_before_random_ones(tmp_path: Path):
    write(tmp_path / "w.safetensors", zoo.fresh("dncnn", width=8).module.state_dict(), {})
    network = resolve("dncnn", weights=tmp_path / "w.safetensors", random=True)
    assert not network.weights.random and network.weights.path == tmp_path / "w.safetensors"


def test_the_request_reaches_the_family():
    network = resolve("span", random=True, scale=3, arguments={"channels": "8"})
    assert network.scale == 3 and MODELS[network.name].task == network.task
