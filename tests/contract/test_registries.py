"""What every registered model and method must do; a new one is tested by being there."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from compress.errors import UsageError, WeightsError
from compress.methods.reparameterize import merged
from compress.network import Network, WeightsSource
from compress.registry import METHODS, MODELS, TRAINABLE, Registry
from compress.task import super_resolution
from compress.weights import write

SIZES = [(16, 24), (19, 9)]


@pytest.fixture
def task(photos_folder):
    """A task of x4 on small images; methods may calibrate or train on it."""
    return super_resolution(4, photos_folder("data"), photos_folder("calibration"))


def build(name):
    """The model with its built-in weights."""
    try:
        return MODELS[name](None, None)
    except WeightsError as error:
        pytest.skip(f"{name} has no built-in weights: {error}")


def copy_of(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", list(MODELS))
def test_a_model_has_a_name_a_summary_and_a_source(name):
    network = build(name)
    assert network.name == name and network.policy is None
    assert network.weights.builtin and network.weights.path.is_file() and len(network.weights.sha256) == 64
    assert len(MODELS.summary(name)) > 10


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", list(MODELS))
def test_a_model_enlarges_images_of_any_size_by_its_scale(name, size):
    network = build(name)
    assert not network.module.training
    x = torch.rand(2, network.channels, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        y = network.module(x)
        assert y.shape == (2, network.channels, size[0] * network.scale, size[1] * network.scale)
        assert y.dtype == torch.float32 and y.isfinite().all()
        assert torch.equal(network.module(x), y), "the same input gives the same output"
        assert torch.equal(build(name).module(x), y), "building it again changes nothing"
        # one image alone: batches may take another convolution kernel, so float32 rounding is allowed
        assert torch.allclose(network.module(x[:1]), y[:1], atol=1e-4)


@pytest.mark.parametrize("name", list(MODELS))
def test_a_model_keeps_brightness(name):
    """Trained weights: a grey image comes out as about that grey, so input and output share the range [0, 1]."""
    network = build(name)
    with torch.inference_mode():
        for grey in (0.2, 0.5, 0.8):
            inner = network.module(torch.full((1, network.channels, 48, 48), grey))[..., 48:-48, 48:-48]
            assert float(inner.mean()) == pytest.approx(grey, abs=0.02)  # five grey levels


@pytest.mark.parametrize("name", list(MODELS))
def test_a_model_refuses_a_scale_that_its_weights_do_not_have(name):
    network = build(name)
    with pytest.raises(WeightsError, match=rf"{network.scale}.*--weights"):
        MODELS[name](None, network.scale + 1)
    assert MODELS[name](None, network.scale).scale == network.scale


@pytest.mark.parametrize("name", list(MODELS))
def test_a_model_refuses_the_weights_of_something_else(name, tmp_path):
    write(tmp_path / "other.safetensors", {"lstm.weight": torch.zeros(3, 3)}, {})
    with pytest.raises(WeightsError, match=r"other\.safetensors"):
        MODELS[name](tmp_path / "other.safetensors", None)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", list(TRAINABLE))
def test_a_training_form_can_be_trained(name, scale):
    module = TRAINABLE[name](scale, 8)
    assert module.training
    y = module(torch.rand(2, 3, 10, 12))
    assert y.shape == (2, 3, 10 * scale, 12 * scale)
    y.abs().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("name", list(TRAINABLE))
def test_the_global_seed_decides_the_first_values(name):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(TRAINABLE[name](4, 8).state_dict())
    assert same(states[0], states[1]) and not same(states[0], states[2])


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", list(TRAINABLE))
def test_what_was_trained_is_loaded_by_the_model_of_that_name(name, scale, tmp_path):
    module = merged(TRAINABLE[name](scale, 8)).eval()
    write(tmp_path / "w.safetensors", module.state_dict(), {})
    network = MODELS[name](tmp_path / "w.safetensors", scale)
    assert network.scale == scale and not network.weights.builtin
    x = torch.rand(1, 3, 9, 11)
    with torch.inference_mode():
        assert torch.equal(network.module(x), module(x))


@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_is_a_frozen_dataclass_with_defaults(name):
    kind = METHODS[name]
    step = kind()
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    assert step == kind() and hash(step) == hash(kind())
    with pytest.raises(dataclasses.FrozenInstanceError):
        step.anything = 1


@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_says_in_one_line_what_it_does(name):
    summary = METHODS.summary(name)
    assert 20 < len(summary) <= 110 and summary.endswith(".")
    assert not summary.startswith(METHODS[name].__name__ + "("), "the docstring must not be dataclass's own"


def example(name):
    """Networks that methods meet: the training form and the deploy form of a small trainable model."""
    torch.manual_seed(0)
    module = TRAINABLE[name](4, 8).eval()
    return [
        Network(name, m, 4, 3, WeightsSource(path=Path("none"), sha256="0" * 64, builtin=False))
        for m in (module, merged(module))
    ]


@pytest.mark.parametrize("model", list(TRAINABLE))
@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_returns_a_network_and_leaves_the_given_one_alone(name, model, task):
    for network in example(model):
        before, modules = copy_of(network.module), [type(m) for m in network.module.modules()]
        training = network.module.training
        after = METHODS[name]()(network, task)
        assert same(copy_of(network.module), before)
        assert [type(m) for m in network.module.modules()] == modules
        assert network.module.training is training and network.policy is None
        assert (after.name, after.scale, after.channels) == (network.name, network.scale, network.channels)
        assert after.weights == network.weights
        assert not after.module.training
        with torch.inference_mode():
            assert after.module(torch.rand(1, 3, 8, 10)).shape == (1, 3, 32, 40)


@pytest.mark.parametrize("name", list(METHODS))
def test_changing_what_a_method_returned_does_not_reach_back(name, task):
    """A method that changes weights must work on a copy; one that does not may hand the same module on."""
    (network, _) = example(next(iter(TRAINABLE)))
    after = METHODS[name]()(network, task)
    if after.module is network.module:
        return
    before = copy_of(network.module)
    with torch.no_grad():
        for parameter in after.module.parameters():
            parameter.zero_()
    assert same(copy_of(network.module), before)


def test_registering_a_name_twice_raises_and_changes_nothing():
    registry = Registry("thing", "compress.methods")

    @registry.add("one")
    def first():
        """The first."""

    with pytest.raises(ValueError, match=r"thing 'one' is registered twice: .*first.*second"):

        @registry.add("one")
        def second():
            """The second."""

    assert list(registry) == ["one"] and registry["one"] is first


@pytest.mark.parametrize("registry", [MODELS, METHODS, TRAINABLE], ids=lambda r: r.kind)
def test_the_real_registries_refuse_a_second_thing_of_a_name(registry):
    before = {name: registry[name] for name in registry}
    for name in before:
        with pytest.raises(ValueError, match=f"{registry.kind} '{name}' is registered twice"):
            registry.add(name)(nn.Identity)
    assert {name: registry[name] for name in registry} == before


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"unknown method 'quantise'; did you mean 'quantize'\? known: quantize, "):
        METHODS["quantise"]
    with pytest.raises(UsageError, match=r"unknown model 'spam'; did you mean 'span'\?"):
        MODELS["spam"]


def test_names_come_in_alphabetical_order():
    registry = Registry("thing", "compress.methods")
    for name in ("b", "c", "a"):
        registry.add(name)(object())
    assert list(registry) == ["a", "b", "c"]


def test_the_package_is_imported_on_the_first_look_up_only(monkeypatch):
    registry = Registry("thing", "a_package_that_does_not_exist")
    registry.add("one")(print)
    with pytest.raises(ModuleNotFoundError):
        list(registry)
