"""Classifiers of the zoo: against torchvision, timm and LiteRT, published counts and scores, and other checkpoints."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from PIL import Image

from compress.errors import WeightsError
from compress.methods.reparameterize import merged
from compress.models._classifier import Normalize, SameConv2d
from compress.models.cifar_resnet import _Block
from compress.registry import MODELS
from compress.weights import read, write
from compress.zoo import fresh, load

SMALL = {  # a few thousand parameters each
    "efficientnet-lite0": {"classes": 5, "width": 0.1},
    "mlperf-mobilenet-v1": {"width": 2},
    "mlperf-resnet8": {"width": 4},
    "mobilenet-v2": {"classes": 5, "width": 0.1},
    "resnet110": {"width": 2},
    "resnet20": {"width": 2},
    "resnet32": {"width": 2},
    "resnet44": {"width": 2},
    "resnet56": {"width": 2},
    "shufflenet-v2": {"classes": 5, "width": 0.5},
    "squeezenet": {"classes": 5, "width": 0.1},
}
TINY = "data/weights/cls/mlperf_tiny"


@pytest.fixture(scope="module")
def torchvision_models(timm):
    return pytest.importorskip("torchvision.models")


@pytest.fixture(scope="module")
def cifar(shared):
    """The first 2,000 test images (N, 3, 32, 32) in [0, 1], and their labels."""
    folder = shared / "data/cls/cifar10"
    rows = np.asarray(Image.open(folder / "test_first2000_rows.png")).reshape(-1, 32, 32, 3)
    images = torch.from_numpy(rows.transpose(0, 3, 1, 2).copy()).float() / 255
    return images, torch.tensor(json.loads((folder / "test_first2000_labels.json").read_text()))


@pytest.fixture(scope="module")
def states():
    """A small checkpoint of each family."""
    return {name: fresh(name, **sizes).module.state_dict() for name, sizes in SMALL.items()}


def lively(module, seed=0):
    """The module with statistics and gains of batch normalisation that a mistake in their use would show."""
    random = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.running_var):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=random))
            for tensor in (layer.bias.data, layer.running_mean):
                tensor.copy_(0.2 * torch.randn(tensor.shape, generator=random))
    return module.eval()


def outputs(module, x):
    with torch.inference_mode():
        return module(x)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "sizes", "count"),
    [
        ("mobilenet-v2", {}, 3_504_872),  # this and the next: num_params in torchvision's metadata
        ("squeezenet", {}, 1_235_496),
        ("shufflenet-v2", {"width": 0.5}, 1_366_792),
        ("shufflenet-v2", {}, 2_278_604),
        ("shufflenet-v2", {"width": 1.5}, 3_503_624),
        ("shufflenet-v2", {"width": 2.0}, 7_393_996),
        ("efficientnet-lite0", {}, 4_652_008),  # 4.65 M in timm's results
        ("resnet20", {}, 269_722),  # arXiv:1512.03385, table 6: 0.27 M, 0.46 M, 0.66 M, 0.85 M, 1.7 M
        ("resnet32", {}, 464_154),
        ("resnet44", {}, 658_586),
        ("resnet56", {}, 853_018),
        ("resnet110", {}, 1_727_962),
    ],
)
def test_the_published_number_of_parameters(name, sizes, count):
    assert parameters(fresh(name, **sizes).module) == count


@pytest.mark.parametrize(("name", "count"), [("mlperf-resnet8", 78_666), ("mlperf-mobilenet-v1", 221_794)])
def test_the_number_of_values_that_keras_counts(name, count):
    state = fresh(name).module.state_dict()
    assert sum(v.numel() for k, v in state.items() if not k.endswith("num_batches_tracked")) == count


@pytest.mark.parametrize("name", SMALL)
def test_a_fresh_network_keeps_the_contract(name):
    torch.manual_seed(3)
    module = MODELS[name].build(**{**SMALL[name], "classes": 7, "channels": 1})
    assert module.training and (module.classes, module.channels) == (7, 1)
    module.eval()
    for size in (fresh(name, **SMALL[name]).input_size, (33, 47)):
        found = outputs(module, torch.rand(2, 1, *size))
        assert found.shape == (2, 7) and found.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_fresh_values_follow_the_seed(name):
    first, same, other = (fresh(name, seed=seed, **SMALL[name]).weights.sha256 for seed in (1, 1, 2))
    assert first == same != other


@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_comes_back_in_both_forms(name, tmp_path):
    module = lively(fresh(name, **SMALL[name]).module)
    x = torch.rand(2, 3, 48, 33)
    expected = outputs(module, x)
    for form in (module, merged(module)):
        write(tmp_path / "w.safetensors", form.state_dict(), {})
        network = load(name, tmp_path / "w.safetensors")
        assert not network.module.training
        assert network.classes == module.classes and network.input_size == fresh(name, **SMALL[name]).input_size
        # 1e-5 of the largest: batch normalisation before or after the sum, in float32
        assert (outputs(network.module, x) - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_is_its_own_familys_only(name, states):
    assert [other for other in SMALL if MODELS[other].recognises(states[name])] == [name]
    for other in SMALL:
        if other != name:
            with pytest.raises(WeightsError, match=r"w\.pth are not .*choose another --model"):
                MODELS[other].from_state(states[name], Path("w.pth"))


@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_with_a_tensor_too_many_or_too_few_is_refused(name, states):
    state = dict(states[name])
    with pytest.raises(WeightsError, match="unexpected: extra"):
        MODELS[name].from_state({**state, "extra": torch.zeros(1)}, Path("w.pth"))
    gone = next(key for key in state if key.endswith("bias"))
    del state[gone]
    with pytest.raises(WeightsError, match=f"missing: {gone}|not .*expected"):
        MODELS[name].from_state(state, Path("w.pth"))


@pytest.mark.parametrize("name", SMALL)
def test_a_tensor_with_another_number_of_axes_is_refused(name, states):
    for key in states[name]:
        if key.endswith("weight"):
            with pytest.raises(WeightsError):
                MODELS[name].from_state({**states[name], key: torch.zeros(())}, Path("w.pth"))
            break


def test_checkpoints_older_than_the_step_counters_load(states):
    state = {k: v for k, v in states["resnet20"].items() if not k.endswith("num_batches_tracked")}
    assert MODELS["resnet20"].from_state(state, Path("w.th")).linear.out_features == 10


@pytest.mark.parametrize("mine", ["mobilenet-v2", "squeezenet", "shufflenet-v2"])
def test_torchvisions_checkpoints_load_and_give_the_same(torchvision_models, mine):
    torch.manual_seed(0)
    name, sizes = {
        "mobilenet-v2": ("mobilenet_v2", {"width_mult": 0.35}),
        "squeezenet": ("squeezenet1_1", {}),
        "shufflenet-v2": ("shufflenet_v2_x0_5", {}),
    }[mine]
    theirs = lively(getattr(torchvision_models, name)(num_classes=11, **sizes))
    ours = MODELS[mine].from_state(theirs.state_dict(), Path("w.pth"))
    assert MODELS[mine].recognises(theirs.state_dict())
    x = torch.rand(2, 3, 96, 75)
    expected = outputs(theirs, Normalize(((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), 3)(x))
    torch.testing.assert_close(outputs(ours, x), expected, rtol=1e-4, atol=1e-5)


def test_timms_efficientnet_lite_loads_and_gives_the_same(timm):
    torch.manual_seed(0)
    theirs = lively(timm.create_model("tf_efficientnet_lite0", num_classes=11))
    ours = MODELS["efficientnet-lite0"].from_state(theirs.state_dict(), Path("w.pth"))
    for size in ((96, 64), (77, 65)):
        x = torch.rand(2, 3, *size)
        torch.testing.assert_close(outputs(ours, x), outputs(theirs, (x - 0.5) / 0.5), rtol=1e-4, atol=1e-5)


def test_deeper_and_wider_efficientnet_lite_loads(timm):
    theirs = timm.create_model("tf_efficientnet_lite3", num_classes=3)
    ours = MODELS["efficientnet-lite0"].build(classes=3, width=1.2, depth=1.4)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert parameters(MODELS["efficientnet-lite0"].from_state(theirs.state_dict(), Path("w"))) == parameters(theirs)


@pytest.mark.parametrize("size", [(7, 8), (11, 12), (5, 4)])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (3, 1), (3, 2), (5, 2), (3, 3)])
def test_same_padding_is_tensorflows(kernel, stride, size):
    """tf.nn, "Notes on padding": the total is kernel - stride where stride divides the side, else kernel - rest."""
    layer, x = SameConv2d(2, 3, kernel, stride), torch.randn(1, 2, *size)
    rows, columns = (max(kernel - (side % stride or stride), 0) for side in size)
    padded = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
    expected = F.conv2d(padded, layer.weight, layer.bias, stride)
    assert expected.shape[2:] == tuple(-(-side // stride) for side in size)
    torch.testing.assert_close(outputs(layer, x), expected)


def test_the_shortcut_is_a_strided_slice_between_zeros():
    torch.manual_seed(0)
    block, x = _Block(4, 8, 2).eval(), torch.randn(2, 4, 7, 10)
    torch.nn.init.zeros_(block.bn2.weight)  # the two convolutions add nothing
    assert torch.equal(outputs(block, x), F.relu(F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))))


@pytest.mark.parametrize(("name", "last"), [("mobilenet-v2", 4), ("shufflenet-v2", 4), ("squeezenet", 3)])
def test_a_network_for_small_images_remembers_its_stem(name, last, tmp_path):
    module = fresh(name, **SMALL[name], input_size=32).module
    maps = []
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, output: maps.append(output.shape[2:]))
    outputs(module, torch.rand(1, 3, 32, 32))
    assert maps[-1] == (last, last)
    write(tmp_path / "w.safetensors", module.state_dict(), {})
    network = load(name, tmp_path / "w.safetensors")
    assert network.input_size == (32, 32)
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(outputs(network.module, x), outputs(module.eval(), x))
    assert "input_side" not in fresh(name, **SMALL[name]).module.state_dict()


@pytest.mark.parametrize("name", ["mobilenet-v2", "shufflenet-v2", "squeezenet"])
def test_a_side_that_is_no_number_is_refused(name, states, tmp_path):
    write(tmp_path / "w.safetensors", {**states[name], "input_side": torch.zeros(2)}, {})
    with pytest.raises(WeightsError, match="input_side"):
        load(name, tmp_path / "w.safetensors")


def test_a_width_that_was_not_published_is_refused():
    with pytest.raises(ValueError, match=r"width 0\.7 is none of the published 0\.5, 1\.0, 1\.5, 2\.0"):
        MODELS["shufflenet-v2"].build(width=0.7)


def test_another_depth_is_named():
    state = fresh("resnet32", width=2).module.state_dict()
    with pytest.raises(WeightsError, match=r"not resnet20's: expected 3 blocks .* found 5 \(those of resnet32\)"):
        MODELS["resnet20"].from_state(state, Path("w.th"))


@pytest.mark.parametrize(
    ("name", "weights", "percent"),
    [  # shared/data/README.md, section 4: on the first 2,000 test images
        ("resnet20", "data/weights/cls/cifar10_resnet/resnet20-12fca82f.th", 91.65),
        ("resnet56", "data/weights/cls/cifar10_resnet/resnet56-4bfd9763.th", 92.95),
        ("mlperf-resnet8", f"{TINY}/pretrainedResnet.h5", 87.90),
        ("mlperf-resnet8", f"{TINY}/pretrainedResnet.tflite", 87.90),
    ],
)
def test_the_published_weights_give_the_published_score(shared, cifar, name, weights, percent):
    if weights.endswith(".h5"):
        pytest.importorskip("h5py")
    if weights.endswith(".tflite"):
        pytest.importorskip("ai_edge_litert")
    state = read(shared / weights)
    assert [other for other in SMALL if MODELS[other].recognises(state)] == [name]
    images, labels = cifar
    module = load(name, shared / weights).module
    guesses = torch.cat([outputs(module, batch).argmax(1) for batch in images.split(250)])
    assert 100 * (guesses == labels).float().mean().item() == pytest.approx(percent, abs=0.05)


@pytest.mark.filterwarnings("ignore:Warning. Enabling .experimental_preserve_all_tensors:UserWarning")
@pytest.mark.parametrize(
    ("name", "weights", "twin", "peak"),
    [
        ("mlperf-resnet8", "pretrainedResnet.h5", "pretrainedResnet.tflite", 255.0),
        ("mlperf-resnet8", "pretrainedResnet.tflite", "pretrainedResnet.tflite", 255.0),
        ("mlperf-mobilenet-v1", "vww_96_float.tflite", "vww_96_float.tflite", 1.0),
    ],
)
def test_the_mlperf_networks_equal_their_tflite_files(shared, photo, name, weights, twin, peak):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    if weights.endswith(".h5"):
        pytest.importorskip("h5py")
    module = load(name, shared / TINY / weights).module
    interpreter = interpreters.Interpreter(str(shared / TINY / twin), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    logits = next(d["index"] for d in interpreter.get_tensor_details() if d["name"].endswith("dense/BiasAdd"))
    for seed in range(4):
        image = photo(*given["shape"][1:3], seed).astype(np.float32) / 255
        interpreter.set_tensor(given["index"], image[None] * np.float32(peak))
        interpreter.invoke()
        found = outputs(module, torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
        # 1e-4 of logits up to 30: float32 sums in another order
        assert np.abs(found.numpy() - interpreter.get_tensor(logits)).max() < 1e-4
        assert np.abs(found.softmax(1).numpy() - interpreter.get_tensor(answer["index"])).max() < 1e-4


def test_a_keras_file_gives_its_weights_by_name_and_nothing_else(tmp_path):
    h5py = pytest.importorskip("h5py")
    kernel = np.arange(18, dtype=">f8").reshape(3, 3, 2, 1)
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones(3)
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["model_weights/conv2d/conv2d/kernel:0"] = kernel
        file["model_weights/block/inner/bias:0"] = np.float32(2)
        file["optimizer_weights/Adam/conv2d/kernel/m:0"] = kernel
        file["model_weights/words"] = "text"
        file["model_weights/link"] = h5py.ExternalLink("other.h5", "secret")
        file.create_dataset("model_weights/outside", (4,), "f4", external=[(str(tmp_path / "secret.bin"), 0, 16)])
    state = read(tmp_path / "w.h5")
    assert {k: tuple(v.shape) for k, v in state.items()} == {"conv2d/kernel": (3, 3, 2, 1), "block/inner/bias": ()}
    assert state["conv2d/kernel"].flatten().tolist() == list(range(18))
    assert state["conv2d/kernel"].dtype == torch.float32


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x89HDF\r\n\x1a\n" + bytes(64), b"\xff" * 64])
@pytest.mark.parametrize(("suffix", "module"), [(".h5", "h5py"), (".tflite", "ai_edge_litert")])
def test_garbage_in_place_of_a_keras_or_tflite_file_is_refused(tmp_path, content, suffix, module):
    pytest.importorskip(module)
    (tmp_path / f"w{suffix}").write_bytes(content)
    with pytest.raises(WeightsError, match=r"not a readable .*fetch it again"):
        read(tmp_path / f"w{suffix}")


@pytest.mark.parametrize(
    ("suffix", "module", "extra"),
    [(".h5", "h5py", "keras"), (".tflite", "ai_edge_litert.tools.flatbuffer_utils", "tflite")],
)
def test_a_reader_that_is_not_installed_is_named_with_the_cure(tmp_path, monkeypatch, suffix, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / f"w{suffix}").write_bytes(b"x")
    with pytest.raises(WeightsError, match=rf"pip install 'edgepress\[{extra}\]'"):
        read(tmp_path / f"w{suffix}")


@pytest.mark.parametrize("name", ["pretrainedResnet_quant.tflite", "vww_96_int8.tflite"])
def test_a_quantized_tflite_file_is_no_checkpoint(shared, name):
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(WeightsError, match=r"the kernel of conv2d is not float32; give the float \.tflite file"):
        read(shared / TINY / name)


def test_keras_and_tflite_files_agree_on_names(shared):
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("h5py")
    apart, folded = (read(shared / TINY / f"pretrainedResnet.{suffix}") for suffix in ("h5", "tflite"))
    assert folded.keys() == {name for name in apart if not name.startswith("batch_normalization")}
    assert all(folded[name].shape == apart[name].shape for name in folded)
    for name in ("conv2d_5/kernel", "dense/kernel"):  # these have nothing folded into them
        assert torch.equal(folded[name], apart[name])
