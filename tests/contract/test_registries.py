"""What every registered method, task and kind of model must do; a new one is tested by being there.

Families of networks are in test_models.py.
"""

import dataclasses
import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compress import source, zoo
from compress.errors import UsageError
from compress.methods.reparameterize import Reparameterize, mergeable, merged
from compress.network import CLASSIFICATION
from compress.registry import METHODS, MODELS, SOURCES, TASKS, Registry
from compress.task import Data

# a small family for each task, and one without blocks to merge
SMALL = {
    "span": {"channels": 8},
    "fsrcnn": {"features": 8, "shrink": 4, "depth": 1},
    "dncnn": {"width": 8},
    "mlperf-resnet8": {"width": 4},
    "mulut": {"width": 4, "depth": 0},
}


@functools.cache
def networks(name):
    """Networks that methods meet: the training form of a small one, and what it is after merging."""
    network = zoo.fresh(name, **SMALL[name])
    if not mergeable(network.module):
        return (network,)
    return (network, replace(network, module=merged(network.module).eval()))


@functools.cache
def task_of(name):
    """The task of a network, on the built-in photographs; methods may calibrate on it."""
    network = networks(name)[0]
    return TASKS[network.task](network, Data())


def applied(name, network, task):
    """What a method makes of a network, training for a step or two where it trains; None where it is refused."""
    method = METHODS[name]()
    quick = {"steps": 2, "batch": 2, "crop": 16, "shrink": (0.2,)}
    known = {field.name for field in dataclasses.fields(method)}
    if set(quick) <= known:
        small = {"sizes": ("width=4", "depth=0", "interval_bits=6")} if "sizes" in known else {}
        method = replace(method, **quick, **small)
    try:
        return method(network, task)
    except UsageError as error:
        assert network.name in str(error), "a refusal names the network"
        return None


def copy_of(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def output(network):
    height, width = network.input_size or (24, 16)
    with torch.inference_mode():
        return network.module(torch.rand(1, network.channels, height, width))


@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_is_a_frozen_dataclass_with_defaults(name):
    kind = METHODS[name]
    step = kind()
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    assert step == kind() and hash(step) == hash(kind())
    with pytest.raises(dataclasses.FrozenInstanceError):
        step.anything = 1


@pytest.mark.parametrize("registry", [METHODS, TASKS, SOURCES], ids=lambda r: r.kind)
def test_everything_says_in_one_line_what_it_is(registry):
    for name in registry:
        summary = registry.summary(name)
        assert 20 < len(summary) <= 120 and summary.endswith("."), name
        assert not summary.startswith(f"{getattr(registry[name], '__name__', '?')}("), "a docstring of its own"


@pytest.mark.parametrize("model", list(SMALL))
@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_returns_a_network_and_leaves_the_given_one_alone(name, model):
    for network in networks(model):
        before, modules = copy_of(network.module), [type(m) for m in network.module.modules()]
        after = applied(name, network, task_of(model))
        assert same(copy_of(network.module), before)
        if after is None:
            continue
        assert [type(m) for m in network.module.modules()] == modules
        assert not network.module.training and network.policy is None
        kept = ("scale", "channels", "task", "unit", "input_size", "classes", "crop_share", "name", "weights")
        kept = kept[:-2] if getattr(METHODS[name], "replaces", False) else kept
        assert [getattr(after, k) for k in kept] == [getattr(network, k) for k in kept]
        assert not after.module.training
        assert output(after).shape == output(network).shape


@pytest.mark.parametrize("name", list(METHODS))
def test_changing_what_a_method_returned_does_not_reach_back(name):
    """A method that changes weights must work on a copy; one that does not may hand the same module on."""
    network = networks("span")[0]
    after = applied(name, network, task_of("span"))
    if after is None or after.module is network.module:
        return
    before = copy_of(network.module)
    with torch.no_grad():
        for parameter in after.module.parameters():
            parameter.zero_()
    assert same(copy_of(network.module), before)


@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_that_changes_the_module_lets_go_of_its_graph(name, tmp_path):
    """The ONNX file that a network came as no longer is what it was."""
    for network in networks("span"):
        given = replace(network, graph=tmp_path / "given.onnx")
        after = applied(name, given, task_of("span"))
        if after is None:
            continue
        assert after.graph == (given.graph if after.module is given.module else None)


def test_a_network_with_nothing_to_merge_is_returned_as_it_is():
    plain = networks("span")[1]
    assert Reparameterize()(plain, task_of("span")) is plain
    assert Reparameterize()(networks("span")[0], task_of("span")).module is not networks("span")[0].module


@pytest.mark.parametrize("model", list(SMALL))
def test_a_task_keeps_its_contract(model):
    network, task = networks(model)[0], task_of(model)
    assert task.name == network.task
    assert all(p.is_file() for p in task.files())
    image = task.sample()
    assert image.dtype == np.float32 and image.shape[2] == network.channels
    assert 0 <= image.min() <= image.max() <= 1
    done = []
    floor = task.floor(done.append)
    assert done[-1] == task.size == sum(i.count for i in floor.items)
    assert (floor.protocol, floor.unit) == (task.protocol, task.unit) and task.unit in task.metric
    assert task.floor_name


@pytest.mark.parametrize("model", list(SMALL))
def test_calibration_inputs_follow_the_seed_and_have_the_size_of_an_input(model):
    network, task = networks(model)[0], task_of(model)
    first, again, other = (task.calibration_inputs(5, 16, seed) for seed in (3, 3, 4))
    assert len(first) == 5
    height, width = network.input_size or (16, 16)
    assert {i.shape for i in first} == {(height, width, network.channels)}
    assert all(i.dtype == np.float32 and 0 <= i.min() <= i.max() <= 1 for i in first)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("model", list(SMALL))
@pytest.mark.parametrize("name", list(TASKS))
def test_a_task_refuses_networks_that_it_cannot_judge(name, model):
    network = networks(model)[0]
    if network.task != name:
        with pytest.raises(UsageError, match=rf"task {name}: {model} .*drop --task"):
            TASKS[name](network, Data())


def test_every_family_has_the_task_that_fits_what_it_gives():
    for model in SMALL:
        network = networks(model)[0]
        assert (output(network).ndim == 2) is (network.task == CLASSIFICATION)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("span", "zoo"),
        ("weights.pth", "checkpoint"),
        ("a/b.SafeTensors", "checkpoint"),
        ("keras.h5", "checkpoint"),
        ("net.onnx", "onnx"),
        ("a/tables.LUT", "lut"),
        ("timm:resnet18", "timm"),
        ("package.module:factory", "factory"),
        ("module:Class", "factory"),
    ],
)
def test_every_way_to_name_a_model_is_of_one_kind(model, kind):
    assert [name for name in SOURCES if SOURCES[name].accepts(model)] == [kind]
    assert source.kind_of(model) is SOURCES[kind]


@pytest.mark.parametrize("model", ["spam", "net.tflite", "a b:c", "pkg.:f", ":f", "mod:", ""])
def test_a_text_that_names_no_model_is_told_what_there_is(model):
    with pytest.raises(UsageError) as caught:
        source.kind_of(model)
    message = str(caught.value)
    assert message.startswith(f"unknown model {model!r}; ")
    assert "known: " in message and "span" in message and source.KINDS in message


def test_values_of_model_arguments_are_read_as_python_would():
    given = {"a": "1", "b": "-2.5e3", "c": "TRUE", "d": "none", "e": "1,2", "f": "plain", "g": "x,1", "h": "4,"}
    assert source.arguments(given) == {
        "a": 1, "b": -2500.0, "c": True, "d": None, "e": (1, 2), "f": "plain", "g": ("x", 1), "h": (4,)
    }  # fmt: skip


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


@pytest.mark.parametrize("registry", [MODELS, METHODS, TASKS, SOURCES], ids=lambda r: r.kind)
def test_the_real_registries_refuse_a_second_thing_of_a_name(registry):
    before = {name: registry[name] for name in registry}
    for name in before:
        with pytest.raises(ValueError, match=f"{registry.kind} '{name}' is registered twice"):
            registry.add(name)(nn.Identity)
    assert {name: registry[name] for name in registry} == before


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"unknown method 'quantise'; did you mean 'quantize'\? known: .*quantize, "):
        METHODS["quantise"]
    with pytest.raises(UsageError, match=r"unknown model 'spam'; did you mean 'span'\?"):
        MODELS["spam"]
    with pytest.raises(UsageError, match=r"unknown task 'super-res'; did you mean 'super-resolution'\?"):
        TASKS["super-res"]


def test_names_come_in_alphabetical_order():
    registry = Registry("thing", "compress.methods")
    for name in ("b", "c", "a"):
        registry.add(name)(object())
    assert list(registry) == ["a", "b", "c"]


def test_a_summary_is_the_title_or_the_first_line_of_the_docstring():
    registry = Registry("thing", "compress.methods")
    registry.add("titled")(dataclasses.make_dataclass("Titled", [("title", str)])("What it is"))
    registry.add("documented")(Path)
    assert registry.summary("titled") == "What it is"
    assert registry.summary("documented") == Path.__doc__.strip().split("\n")[0]


def test_the_package_is_imported_on_the_first_look_up_only(monkeypatch):
    registry = Registry("thing", "a_package_that_does_not_exist")
    registry.add("one")(print)
    with pytest.raises(ModuleNotFoundError):
        list(registry)
