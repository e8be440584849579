"""The method: cut, recovered, resumed, written and read again."""

from dataclasses import replace

import pytest
import torch

from compress import zoo
from compress.channels.widths import save
from compress.errors import UsageError, WeightsError
from compress.methods.channels import Channels
from compress.methods.reparameterize import merged
from compress.registry import TASKS
from compress.task import Data
from compress.weights import header, read, write
from compress.workshop import Workshop

CUT = Channels(share=0.4, steps=0, importance="l2")
QUICK = Channels(share=0.4, steps=4, batch=2, crop=16, shrink=(0.2,), validate_every=2, samples=2)


@pytest.fixture(scope="module")
def network():
    return zoo.fresh("span", channels=8)


@pytest.fixture(scope="module")
def task(network):
    return TASKS[network.task](network, Data())


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("importance", ["l1", "l2", "taylor", "fisher"])
def test_as_much_goes_as_the_share_says(network, task, importance):
    small = replace(CUT, importance=importance, budget="bytes", samples=2)(network, task)
    assert (
        0.4 * parameters(merged(network.module)) < parameters(small.module) <= 0.6 * parameters(merged(network.module))
    )


def test_training_goes_on_after_a_kill_as_it_would_have(network, task, tmp_path, monkeypatch):
    whole = QUICK(network, task, Workshop(tmp_path / "whole"))
    from compress.train import loop

    step, calls = loop._step, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(loop, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        QUICK(network, task, Workshop(tmp_path / "part"))
    cut = (tmp_path / "part" / "channels.safetensors").read_bytes()
    resumed = QUICK(network, task, Workshop(tmp_path / "part"))
    assert len(calls) == 3 + 2, "two steps were done, one was killed, two were left"
    assert (tmp_path / "part" / "channels.safetensors").read_bytes() == cut
    assert same(resumed.module, whole.module)
    again = zoo.load("span", tmp_path / "part" / "pruned.safetensors")
    assert same(again.module, resumed.module)


@pytest.mark.parametrize("name", ["span", "fsrcnn", "mlperf-mobilenet-v1"])
def test_a_written_network_loads_by_its_model_name(name, tmp_path):
    given = zoo.fresh(name, **({"channels": 8} if name == "span" else {}))
    small = CUT(given, TASKS[given.task](given, Data()))
    file = tmp_path / "pruned.safetensors"
    save(file, merged(given.module), small.module)
    again = zoo.load(name, file)
    assert same(again.module, small.module) and again.weights.path == file
    height, width = given.input_size or (24, 20)
    x = torch.rand(1, given.channels, height, width)
    with torch.no_grad():
        assert torch.equal(again.module(x), small.module(x))


def test_tensors_of_another_width_are_refused_by_layer(network, task, tmp_path):
    small = CUT(network, task)
    right, wrong = tmp_path / "right.safetensors", tmp_path / "wrong.safetensors"
    save(right, merged(network.module), small.module)
    state = read(right)
    state["block_1.c1_r.weight"] = state["block_1.c1_r.weight"][1:]
    write(wrong, state, header(right))
    with pytest.raises(WeightsError, match=r"do not fit together at layer block_1\.c1_r: "):
        zoo.load("span", wrong)
    write(wrong, read(right), {})
    with pytest.raises(WeightsError, match=r"wrong shape: .*block_1\.c1_r\.weight"):
        zoo.load("span", wrong)


def test_a_header_of_another_file_is_refused(network, task, tmp_path):
    small = CUT(network, task)
    file = tmp_path / "pruned.safetensors"
    save(file, merged(network.module), small.module)
    state = read(file)
    for shapes, message in [
        ("[", "no shapes by tensor"),
        ('{"block_9.weight": [3]}', r"block_9\.weight was cut from \(3,\) by its header, found no such tensor"),
        ('{"conv_cat.weight": [1, 1, 1, 1]}', r"conv_cat\.weight was cut from"),
    ]:
        write(file, state, {"widths": shapes})
        with pytest.raises(WeightsError, match=message):
            zoo.load("span", file)


def test_tables_and_impossible_shares_are_refused_by_name(task):
    tables = zoo.fresh("sr-lut")
    with pytest.raises(UsageError, match=r"sr-lut consists of look-up tables"):
        CUT(tables, task)
    network = zoo.fresh("span", channels=8)
    with pytest.raises(UsageError, match=r"span: 99% of the macs cannot go"):
        replace(CUT, share=0.99, most=0.2)(network, task)


def test_official_span_is_cut(shared, task):
    files = sorted((shared / "data/weights/sr/span").glob("spanx4_ch48*.pth"))
    if not files:
        pytest.skip("no official weights")
    given = zoo.load("span", files[0])
    small = replace(CUT, align=8)(given, task).module
    widths = {n: m.out_channels for n, m in small.named_modules() if isinstance(m, torch.nn.Conv2d)}
    assert all(w % 8 == 0 for w in widths.values()) and widths["block_1.c3_r"] == widths["block_6.c3_r"]
    assert small.conv_cat.in_channels == 2 * widths["conv_1"] + widths["conv_2"] + widths["block_6.c1_r"]
