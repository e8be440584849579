"""Classifiers of timm by name: random ones, given weights, and no network."""

from importlib.util import find_spec

import pytest
import torch

from compress.errors import UsageError, WeightsError
from compress.network import CLASSIFICATION
from compress.sources.timm_model import Normalised
from compress.weights import write

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
MODEL = "timm:test_resnet"  # of timm's own tests, half a million parameters


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No request leaves this process, whether the hub was imported before or not."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_random_classifier_states_its_contract(resolve):
    network = resolve(MODEL, random=True)
    assert (network.name, network.task, network.scale, network.channels) == ("test_resnet", CLASSIFICATION, 1, 3)
    assert network.input_size == (160, 160) and network.classes == 1000 and 0 < network.crop_share <= 1
    assert network.weights.random and network.weights.path is None and len(network.weights.sha256) == 64
    with torch.inference_mode():
        assert network.module(torch.rand(1, 3, 160, 160)).shape == (1, 1000)


def test_arguments_go_to_timm(resolve):
    network = resolve(MODEL, random=True, arguments={"num_classes": "10"})
    assert network.classes == 10
    with torch.inference_mode():
        assert network.module(torch.rand(2, 3, 160, 160)).shape == (2, 10)


def test_a_classifier_of_one_channel_takes_grey_images(resolve):
    network = resolve(MODEL, random=True, arguments={"in_chans": "1", "num_classes": "4"})
    assert network.channels == 1 and network.module.mean.shape == (1, 1, 1, 1)
    with torch.inference_mode():
        assert network.module(torch.rand(1, 1, 160, 160)).shape == (1, 4)


def test_images_in_0_to_1_are_normalised_inside():
    module = Normalised(torch.nn.Identity(), (0.5, 0.4, 0.3), (0.1, 0.2, 0.4))
    x = torch.tensor([0.5, 0.6, 0.5]).view(1, 3, 1, 1)
    assert torch.allclose(module(x).flatten(), torch.tensor([0.0, 1.0, 0.5]))
    assert module.state_dict() == {}, "a checkpoint holds nothing of it"


def test_the_seed_decides_random_values(resolve):
    before = torch.random.get_rng_state()
    hashes = [resolve(MODEL, random=True, seed=seed).weights.sha256 for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_weights_of_a_file_are_loaded(resolve, tmp_path):
    given = resolve(MODEL, random=True, seed=3)
    write(tmp_path / "w.safetensors", given.module.model.state_dict(), {})
    network = resolve(MODEL, weights=tmp_path / "w.safetensors")
    assert network.weights.path == tmp_path / "w.safetensors" and not network.weights.random
    x = torch.rand(1, 3, 160, 160)
    with torch.inference_mode():
        assert torch.equal(network.module(x), given.module(x))
    with pytest.raises(WeightsError, match=r"w\.safetensors do not fit .*wrong shape: fc\.weight"):
        resolve(MODEL, weights=tmp_path / "w.safetensors", arguments={"num_classes": "10"})


def test_without_a_network_the_published_weights_are_told_to_be_given(resolve):
    with pytest.raises(
        WeightsError, match=r"timm model resnet18: its published weights cannot be fetched \(.*--random"
    ):
        resolve("timm:resnet18")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet19", r"did you mean 'resnet\d+'"),
        ("mobilenetv2_101", "did you mean 'mobilenet"),
        ("zzzz", "list_models"),
    ],
)
def test_an_unknown_name_gets_the_nearest_and_not_a_thousand(resolve, name, hint):
    with pytest.raises(UsageError, match=rf"timm has no model '{name}'; .*{hint}") as caught:
        resolve(f"timm:{name}", random=True)
    assert len(str(caught.value)) < 120


def test_arguments_that_timm_does_not_take_are_named(resolve):
    with pytest.raises(UsageError, match=r"timm model test_resnet: .*'nonsense'; check --model-arg"):
        resolve(MODEL, random=True, arguments={"nonsense": "1"})
