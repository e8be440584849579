"""The user's own network: what it may be, and what a mistaken one is told."""

import sys

import pytest
import torch

from compress.errors import UsageError, WeightsError
from compress.network import CLASSIFICATION, RESTORATION, SUPER_RESOLUTION
from compress.weights import write

NETS = """
    import torch
    from torch import nn


    class Enlarging(nn.Module):
        def __init__(self, width=4, scale=2):
            super().__init__()
            self.conv = nn.Conv2d(3, width, 3, padding=1)
            self.out = nn.Conv2d(width, 3 * scale**2, 3, padding=1)
            self.scale = scale

        def forward(self, x):
            return nn.functional.pixel_shuffle(self.out(self.conv(x)), self.scale)


    def tiny(width=4):
        return Enlarging(width)


    def denoiser():
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


    def classifier(classes=10):
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                             nn.Linear(4, classes))


    def in_eights():
        module = Enlarging()
        module.unit = 8
        return module


    def of_one_size():
        module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 24, 7))
        module.input_size = [20, 24]
        return module


    def whole():
        from compress.network import Network, WeightsSource
        return Network("mine", Enlarging(), 2, 3, WeightsSource(None, "0" * 64, builtin=False))


    def raises(reason="none"):
        if reason == "deep":
            return nn.Conv2d(3, -4, 3)
        raise ValueError(f"no good: {reason}")


    def number():
        return 3


    constant = 3
"""


@pytest.fixture
def nets(write_module):
    """The path of module ``nets``."""
    return write_module("nets", NETS)


def test_what_a_network_takes_and_gives_is_found_by_running_it(nets, resolve):
    found = {name: resolve(f"nets:{name}") for name in ("tiny", "denoiser", "classifier", "in_eights", "of_one_size")}
    told = {name: (n.task, n.scale, n.channels, n.classes, n.input_size, n.unit) for name, n in found.items()}
    assert told == {
        "tiny": (SUPER_RESOLUTION, 2, 3, None, None, 1),
        "denoiser": (RESTORATION, 1, 1, None, None, 1),
        "classifier": (CLASSIFICATION, 1, 3, 10, (64, 64), 1),
        "in_eights": (SUPER_RESOLUTION, 2, 3, None, None, 8),
        "of_one_size": (CLASSIFICATION, 1, 3, 7, (20, 24), 1),
    }
    assert {n.name for n in found.values()} == set(told)
    assert not any(n.module.training for n in found.values())


def test_a_class_is_a_factory_too(nets, resolve):
    network = resolve("nets:Enlarging", arguments={"width": "6", "scale": "3"})
    assert (network.name, network.scale, network.module.conv.out_channels) == ("Enlarging", 3, 6)


def test_a_whole_network_is_taken_as_it_is(nets, resolve):
    assert (resolve("nets:whole").name, resolve("nets:whole").scale) == ("mine", 2)
    with pytest.raises(UsageError, match="nets:whole returned a Network with weights; drop --weights"):
        resolve("nets:whole", weights=nets)


def test_the_seed_decides_what_the_factory_draws(nets, resolve):
    before = torch.random.get_rng_state()
    hashes = [resolve("nets:tiny", seed=seed).weights.sha256 for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_weights_are_loaded_into_it(nets, resolve, tmp_path):
    trained = resolve("nets:tiny", seed=5).module
    write(tmp_path / "w.safetensors", trained.state_dict(), {})
    network = resolve("nets:tiny", weights=tmp_path / "w.safetensors")
    assert network.weights.path == tmp_path / "w.safetensors" and not network.weights.random
    x = torch.rand(1, 3, 9, 11)
    with torch.inference_mode():
        assert torch.equal(network.module(x), trained(x))


def test_weights_of_another_size_are_refused(nets, resolve, tmp_path):
    write(tmp_path / "w.safetensors", resolve("nets:tiny", arguments={"width": "6"}).module.state_dict(), {})
    with pytest.raises(
        WeightsError, match=r"w\.safetensors do not fit Enlarging: wrong shape: conv\.weight \(found \(6,"
    ):
        resolve("nets:tiny", weights=tmp_path / "w.safetensors")


def test_a_factory_that_raises_is_shown_with_its_file_and_line(nets, resolve):
    line = 1 + next(n for n, text in enumerate(nets.read_text().splitlines()) if "raise ValueError" in text)
    with pytest.raises(UsageError) as caught:
        resolve("nets:raises", arguments={"reason": "too wide"})
    message = str(caught.value)
    assert message.startswith("nets:raises(reason='too wide') raised ValueError: no good: too wide at ")
    assert f"{nets}:{line} (raise ValueError" in message


def test_an_error_deep_inside_torch_is_shown_where_the_users_file_caused_it(nets, resolve):
    line = 1 + next(n for n, text in enumerate(nets.read_text().splitlines()) if "nn.Conv2d(3, -4" in text)
    with pytest.raises(UsageError, match=rf"raised RuntimeError: .*{nets}:{line} \(return nn"):
        resolve("nets:raises", arguments={"reason": "deep"})


def test_arguments_that_do_not_fit_name_the_factory(nets, resolve):
    line = 1 + next(n for n, text in enumerate(nets.read_text().splitlines()) if "def tiny" in text)
    with pytest.raises(UsageError, match=rf"nets:tiny\(depth=3\) raised TypeError: .*'depth' at {nets}:{line}; mend"):
        resolve("nets:tiny", arguments={"depth": "3"})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nets:tinny", r"nets:tinny: nets has nothing callable named tinny; it has .*tiny"),
        ("nets:constant", r"nets has nothing callable named constant"),
        ("nets:number", r"nets:number returned a int, expected a torch module or a Network"),
        (
            "no_such_package.nets:tiny",
            r"cannot import no_such_package\.nets \(No module named 'no_such_package'\); run",
        ),
    ],
)
def test_what_is_no_network_is_named(nets, resolve, model, message):
    with pytest.raises(UsageError, match=message):
        resolve(model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_thing", r"cannot import broken \(No module named 'no_such_thing'\)"),
        ("raise ValueError('half written')", r"importing broken raised ValueError: half written"),
        ("def tiny(:", r"importing broken raised SyntaxError"),
        ("import sys\nsys.exit(3)", r"importing broken raised SystemExit: 3"),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(write_module, resolve, text, message):
    write_module("broken", text)
    with pytest.raises(UsageError, match=message):
        resolve("broken:tiny")


def test_a_module_beside_the_user_is_found(tmp_path, monkeypatch, resolve):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_me.py").write_text("from torch import nn\n\ndef net():\n    return nn.Conv2d(3, 3, 1)\n")
    monkeypatch.chdir(tmp_path)
    assert resolve("beside_me:net").task == RESTORATION


def test_another_scale_or_task_than_it_has_is_refused(nets, resolve):
    assert resolve("nets:tiny", scale=2, task=SUPER_RESOLUTION).scale == 2
    with pytest.raises(UsageError, match="nets:tiny enlarges by 2, --scale says 4; drop --scale"):
        resolve("nets:tiny", scale=4)
    with pytest.raises(UsageError, match="--task restoration, but nets:tiny gives"):
        resolve("nets:tiny", task=RESTORATION)
