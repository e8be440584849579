"""What every family of the zoo must do; a new one is tested by being there, at the smallest sizes it takes."""

import functools
import inspect
import itertools
import re
from pathlib import Path

import pytest
import torch

from compress import zoo
from compress.errors import UsageError, WeightsError
from compress.methods._fx import traced
from compress.methods.equalize import _equalized
from compress.methods.reparameterize import mergeable, merged
from compress.network import CLASSIFICATION, RESTORATION, SUPER_RESOLUTION
from compress.registry import MODELS, TASKS
from compress.weights import read, write
from export.tiling import round_up

NAMES = list(MODELS)
IMAGE_NAMES = [name for name in NAMES if MODELS[name].task != CLASSIFICATION]
SIDES = (32, 64, 96, 128)
VENUE = re.compile(r"arXiv:\d{4}\.\d{4,5}|\b[A-Z][A-Za-z]+ (19|20)\d\d\b")


def narrowed(parameters):
    """Values for the widths that a family has: a quarter of the published ones, half of them, those themselves."""
    for part in (4, 2):
        values = {}
        for name in {"width", "widths"} & parameters.keys():
            default = parameters[name].default
            if not isinstance(default, int):
                values[name] = default / part if isinstance(default, float) else tuple(w // part for w in default)
            elif default >= 64:
                values[name] = default // part
        if values:
            yield values
    yield {}


@functools.cache
def sizes_of(name):
    """The smallest sizes that the family does not refuse."""
    parameters = inspect.signature(MODELS[name].build).parameters
    sides = [{"input_size": side} for side in SIDES if "input_size" in parameters]
    for side, widths in itertools.product([*sides, {}], narrowed(parameters)):
        try:
            zoo.fresh(name, **side, **widths)
        except UsageError:
            continue
        return {**side, **widths}
    raise AssertionError(f"{name} refuses its own defaults")


@functools.cache
def fresh(name):
    """A network of the family with random values; not to be changed."""
    return zoo.fresh(name, **sizes_of(name))


@functools.cache
def forms(name):
    """The training form and, where it differs, the merged form, in evaluation mode."""
    module = fresh(name).module
    return (module, merged(module).eval()) if mergeable(module) else (module,)


@functools.cache
def states(name):
    """The tensors of the forms."""
    return tuple(form.state_dict() for form in forms(name))


def picture(network, size=(21, 17), count=1):
    """Images (count, C, H, W) of a size that the network takes: about the given one, or its own.

    No side is below 15, which the pooling inside RFDN's attention and its descendants' needs.
    """
    height, width = network.input_size or round_up(size, network.unit)
    return torch.rand(count, network.channels, height, width, generator=torch.Generator().manual_seed(0))


def outputs_equal(a, b, x):
    with torch.inference_mode():
        return torch.equal(a(x), b(x))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", NAMES)
def test_a_family_says_in_one_line_what_it_is_and_where_it_is_published(name):
    title = MODELS[name].title
    assert 20 < len(title) <= 120 and "\n" not in title
    assert VENUE.search(title), f"{title!r} names neither an arXiv id nor a venue with its year"
    assert MODELS[name].task in list(TASKS)
    assert re.fullmatch(r"[a-z][a-z0-9-]*", name)


@pytest.mark.parametrize("name", NAMES)
def test_a_fresh_network_states_its_contract(name):
    network = fresh(name)
    assert (network.name, network.task) == (name, MODELS[name].task)
    assert network.policy is None and network.graph is None and not network.module.training
    assert network.weights.random and not network.weights.builtin and network.weights.path is None
    assert len(network.weights.sha256) == 64 and network.channels in (1, 3)
    if network.task == CLASSIFICATION:
        assert network.classes >= 2 and network.input_size is not None and network.scale == 1
        assert 0 < network.crop_share <= 1
    else:
        assert network.classes is None and network.input_size is None
        assert network.scale > 1 if network.task == SUPER_RESOLUTION else network.scale == 1


@pytest.mark.parametrize("size", [(16, 24), (21, 17)], ids=["usual", "odd"])
@pytest.mark.parametrize("name", NAMES)
def test_a_network_gives_what_its_contract_says(name, size):
    network = fresh(name)
    x = picture(network, size, count=2)
    with torch.inference_mode():
        y = network.module(x)
        again, alone = network.module(x), network.module(x[:1])
    scale = network.scale
    assert y.shape == (
        (2, network.classes) if network.classes else (2, x.shape[1], x.shape[2] * scale, x.shape[3] * scale)
    )
    assert y.dtype == torch.float32 and y.isfinite().all()
    assert torch.equal(again, y), "the same input gives the same output"
    # batches may take another convolution kernel, so float32 rounding is allowed
    assert torch.allclose(alone, y[:1], atol=1e-4 * max(1.0, float(y.abs().max())))


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_the_first_values(name):
    first, again, other = (zoo.fresh(name, seed=seed, **sizes_of(name)) for seed in (1, 1, 2))
    assert first.weights.sha256 == again.weights.sha256 != other.weights.sha256
    torch.manual_seed(1)
    assert same(MODELS[name].build(**sizes_of(name)).state_dict(), first.module.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_the_training_form_can_be_trained(name):
    module = MODELS[name].build(**sizes_of(name))
    assert module.training
    module(picture(fresh(name), count=2)).abs().mean().backward()
    untouched = [key for key, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert untouched == []
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", [name for name in NAMES if MODELS[name].task == SUPER_RESOLUTION])
def test_a_super_resolution_family_has_every_usual_scale_or_says_which(name):
    for scale in (2, 3, 4):
        try:
            network = zoo.fresh(name, scale=scale, **sizes_of(name))
        except UsageError as error:
            assert f"model {name}: " in str(error) and str(scale) in str(error)
            continue
        assert network.scale == scale
        x = picture(network, (16, 18))
        with torch.inference_mode():
            assert network.module(x).shape[2:] == (x.shape[2] * scale, x.shape[3] * scale)


@pytest.mark.parametrize("name", [name for name in NAMES if MODELS[name].task == CLASSIFICATION])
def test_a_classifier_has_as_many_classes_and_input_channels_as_asked_for(name):
    network = zoo.fresh(name, classes=7, channels=1, **sizes_of(name))
    assert (network.classes, network.channels) == (7, 1)
    with torch.inference_mode():
        assert network.module(picture(network)).shape == (1, 7)


@pytest.mark.parametrize("name", NAMES)
def test_merging_changes_no_value_not_even_at_borders(name):
    module, plain = forms(name)[0], forms(name)[-1]  # one and the same where nothing can be merged
    assert mergeable(plain) == 0
    x = picture(fresh(name))
    with torch.inference_mode():
        found, expected = plain(x), module(x)
    assert float((found - expected).abs().max()) < 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_what_was_saved_is_loaded_in_every_form(name, tmp_path):
    network = fresh(name)
    for number, module in enumerate(forms(name)):
        path = tmp_path / f"{number}.safetensors"
        write(path, module.state_dict(), {})
        loaded = zoo.load(name, path)
        assert (loaded.name, loaded.scale, loaded.channels) == (name, network.scale, network.channels)
        assert loaded.classes == network.classes and not loaded.module.training
        assert loaded.weights.path == path and not (loaded.weights.builtin or loaded.weights.random)
        assert outputs_equal(loaded.module, module, picture(network))
        assert same(read(path), loaded.module.state_dict())


def made_of(family, other, state):
    """What a family makes of the tensors of another: it is ``refused``, ``the same`` network or ``something else``."""
    try:
        module = MODELS[family].from_state(state, Path("other.safetensors"))
    except WeightsError as error:
        assert "other.safetensors" in str(error)
        return "refused"
    own = MODELS[other].from_state(state, Path("own.safetensors"))
    return "the same" if outputs_equal(module, own, picture(fresh(other))) else "something else"


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_of_every_other_family_are_refused(name):
    """But where two names stand for one architecture, whose sizes are read off the tensors."""
    pairs = [(other, state) for other in NAMES if other != name for state in states(other)]
    mistaken = [other for other, state in pairs if made_of(name, other, state) == "something else"]
    assert mistaken == [], "it takes their tensors and makes something else of them"


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_alone_is_recognised_as_its_own(name):
    for state in states(name):
        assert MODELS[name].recognises(state)
        takers = [other for other in NAMES if MODELS[other].recognises(state)]
        strangers = {other: made for other in takers if (made := made_of(other, name, state)) != "the same"}
        assert strangers == {}, "they claim the checkpoint and cannot load it, or make something else of it"
        assert zoo.recognise(state) in takers


@pytest.mark.parametrize("name", NAMES)
def test_a_size_that_a_family_does_not_have_is_refused(name):
    with pytest.raises(UsageError, match=f"model {name}: .*no_such_size"):
        zoo.fresh(name, no_such_size=3)


@pytest.mark.parametrize("name", NAMES)
def test_another_scale_than_that_of_the_weights_is_refused(name, tmp_path):
    write(tmp_path / "w.safetensors", fresh(name).module.state_dict(), {})
    scale = fresh(name).scale
    with pytest.raises(
        WeightsError, match=rf"w\.safetensors are for scale {scale}, --scale asks for {scale + 1}; drop"
    ):
        zoo.load(name, tmp_path / "w.safetensors", scale + 1)
    assert zoo.load(name, tmp_path / "w.safetensors", scale).scale == scale


BUILTIN = [name for name in NAMES if MODELS[name].builtin is not None]


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_weights_say_where_they_come_from(name):
    network = zoo.load(name)
    assert network.weights.builtin and network.weights.path.is_file() and len(network.weights.sha256) == 64
    with pytest.raises(WeightsError, match=rf"built in is x{network.scale} only: give --weights"):
        zoo.load(name, None, network.scale + 1)


@pytest.mark.parametrize("name", [name for name in BUILTIN if name in IMAGE_NAMES])
def test_trained_weights_keep_brightness(name):
    """A grey image comes out as about that grey, so input and output share the range [0, 1]."""
    network = zoo.load(name)
    with torch.inference_mode():
        for grey in (0.2, 0.5, 0.8):
            inner = network.module(torch.full((1, network.channels, 48, 48), grey))[..., 48:-48, 48:-48]
            assert float(inner.mean()) == pytest.approx(grey, abs=0.02)  # five grey levels


def test_every_task_has_a_family():
    assert {MODELS[name].task for name in NAMES} == {SUPER_RESOLUTION, RESTORATION, CLASSIFICATION} == set(TASKS)


@pytest.mark.parametrize("name", NAMES)
def test_equalized_channels_keep_the_function(name):
    network = fresh(name)
    graph = traced(merged(network.module).double())
    if graph is None:
        pytest.skip("control flow on values: the network cannot be traced, and is left as it is")
    size = network.input_size or round_up((16, 16), network.unit)
    images = torch.rand(2, network.channels, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        exact = graph(images)
        _equalized(graph, images, products=True)
        assert float((graph(images) - exact).abs().max()) <= 1e-6 * float(exact.abs().max())
