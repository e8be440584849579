"""Checkpoints: what is taken, what is refused, and that nothing in them is ever executed."""

import os
import pickle

import pytest
import torch
from safetensors import safe_open
from torch import nn

from compress.errors import WeightsError
from compress.weights import load_into, read, sha256, write


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def state():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 1)).state_dict()


def test_safetensors_come_back_with_their_header(tmp_path, state):
    path = tmp_path / "w.safetensors"
    write(path, state, {"recipe": "{}", "protocol": "sr"})
    assert same(read(path), state)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"recipe": "{}", "protocol": "sr"}


def test_writing_leaves_no_other_file(tmp_path, state):
    write(tmp_path / "w.safetensors", state, {})
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, state):
    path = tmp_path / "w.safetensors"
    write(path, state, {})
    with pytest.raises(TypeError):
        write(path, state, {"step": 3})  # safetensors takes strings only
    assert same(read(path), state)
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_half_precision_becomes_float32_and_integers_stay(tmp_path):
    path = tmp_path / "w.safetensors"
    write(path, {"a": torch.ones(2).half(), "b": torch.ones(2).bfloat16(), "n": torch.arange(3)}, {})
    assert {k: v.dtype for k, v in read(path).items()} == {"a": torch.float32, "b": torch.float32, "n": torch.int64}


def test_a_tensor_that_is_a_transposed_view_is_written_in_order(tmp_path):
    turned = torch.arange(6.0).view(2, 3).T
    write(tmp_path / "w.safetensors", {"a": turned}, {})
    assert torch.equal(read(tmp_path / "w.safetensors")["a"], turned)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_both_formats_of_torch_save_are_read(tmp_path, state, zipped):
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert same(read(tmp_path / "w.pth"), state)


@pytest.mark.parametrize("wrapper", ["params_ema", "params", "state_dict", "model"])
def test_wrappers_are_removed(tmp_path, state, wrapper):
    torch.save({wrapper: state, "epoch": 3, "lr": 0.1}, tmp_path / "w.pth")
    assert same(read(tmp_path / "w.pth"), state)


def test_the_averaged_weights_are_preferred(tmp_path, state):
    zeros = {k: torch.zeros_like(v) for k, v in state.items()}
    torch.save({"params": zeros, "params_ema": state}, tmp_path / "w.pth")
    assert same(read(tmp_path / "w.pth"), state)


def test_the_prefix_of_data_parallel_training_is_removed(tmp_path, state):
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pth")
    assert same(read(tmp_path / "w.pth"), state)


@pytest.mark.parametrize("name", ["gone.pth", "gone.safetensors"])
def test_a_missing_file_is_named_with_the_cure(tmp_path, name):
    with pytest.raises(WeightsError, match=rf"{name}: no such file; give a \.safetensors or \.pth file"):
        read(tmp_path / name)


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        read(tmp_path)


def test_safetensors_cut_anywhere_are_refused(tmp_path, state):
    path = tmp_path / "w.safetensors"
    write(path, state, {})
    whole = path.read_bytes()
    for length in range(0, len(whole), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"not a readable safetensors file.*fetch it again"):
            read(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pth_file_cut_anywhere_is_refused(tmp_path, state, zipped):
    path = tmp_path / "w.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in range(0, len(whole), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"w\.pth"):
            read(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<!DOCTYPE html><html>404</html>", id="html"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", id="git-lfs"),
        pytest.param(b"\x00" * 64, id="zeros"),
        pytest.param(b"\xff" * 64, id="ones"),
    ],
)
def test_garbage_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"damaged|not a readable"):
        read(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")  # torch's own guess about junk
def test_garbage_that_consists_of_pickle_opcodes_is_refused(tmp_path):
    """Each fails inside torch's unpickler in its own way."""
    path = tmp_path / "w.pth"
    for opcode in range(256):
        path.write_bytes(bytes([opcode]) * 50)
        with pytest.raises(WeightsError, match=r"damaged|not a readable"):
            read(path)


class _Evil:
    """Creates a file when it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_malicious_pickle_is_not_executed(tmp_path, state, form, suffix):
    canary, path = tmp_path / "canary", tmp_path / f"w{suffix}"
    content = {"params": state, "extra": _Evil(canary)}
    if form == "plain":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    expected = "not executed.*Save a state dict" if suffix == ".pth" else "not a readable safetensors file"
    with pytest.raises(WeightsError, match=expected):
        read(path)
    assert not canary.exists()
    if suffix == ".pth" and form == "plain":
        pickle.loads(path.read_bytes())
        assert canary.exists(), "the file must be one that does harm"


def test_a_whole_pickled_module_is_refused_with_the_cure(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"torch\.save\(model\.state_dict\(\)"):
        read(tmp_path / "w.pth")


def test_a_checkpoint_that_is_no_dict_is_refused(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="expected a dict of tensors, found list"):
        read(tmp_path / "w.pth")


def test_a_checkpoint_without_tensors_is_told_its_keys(tmp_path):
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"no tensors inside, found keys \['epoch', 'lr'\]"):
        read(tmp_path / "w.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tensors_that_are_not_finite_are_named(tmp_path, state, value):
    state["1.bias"][1] = value
    write(tmp_path / "w.safetensors", state, {})
    with pytest.raises(WeightsError, match=r"NaN or infinite values in 1\.bias; .*use an earlier checkpoint"):
        read(tmp_path / "w.safetensors")


def test_of_many_bad_tensors_ten_are_named(tmp_path):
    write(tmp_path / "w.safetensors", {f"t{n:02d}": torch.tensor([torch.nan]) for n in range(14)}, {})
    with pytest.raises(WeightsError, match=r"in t00, .*t09 and 4 more;"):
        read(tmp_path / "w.safetensors")


def test_a_number_format_that_cannot_be_used_is_refused_or_read(tmp_path):
    """Quantized checkpoints are passed around; whatever becomes of one, it is not a traceback."""
    path = tmp_path / "w.safetensors"
    write(path, {"a": torch.ones(2).to(torch.float8_e4m3fn)}, {})
    try:
        assert read(path)["a"].tolist() == [1.0, 1.0]
    except WeightsError as error:
        assert "w.safetensors" in str(error)


def test_load_into_copies_every_tensor(state):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 1))
    load_into(module, state, "w.pth")
    assert same(module.state_dict(), state)


def test_load_into_lists_what_is_missing_unexpected_and_misshapen(state, tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 1))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    del state["1.bias"]
    state["head.weight"] = torch.zeros(1)
    state["0.weight"] = torch.zeros(8, 3, 3, 3)
    expected = (
        r"w\.pth do not fit Sequential: missing: 1\.bias; unexpected: head\.weight; "
        r"wrong shape: 0\.weight \(found \(8, 3, 3, 3\), expected \(4, 3, 3, 3\)\); check --model and --scale"
    )
    with pytest.raises(WeightsError, match=expected):
        load_into(module, state, tmp_path / "w.pth")
    assert same(module.state_dict(), before)


def test_load_into_lists_at_most_ten_of_each(tmp_path):
    module = nn.ModuleDict({f"m{n:02d}": nn.Linear(1, 1, bias=False) for n in range(13)})
    wrong = {f"x{n:02d}": torch.zeros(1) for n in range(25)}
    with pytest.raises(WeightsError, match=r"m09\.weight and 3 more; unexpected: .*x09 and 15 more;"):
        load_into(module, wrong, tmp_path / "w.pth")
    misshapen = {k: torch.zeros(2, 2) for k in module.state_dict()}
    with pytest.raises(WeightsError, match=r"wrong shape: m00\.weight .*m09\.weight \([^)]*\), [^)]*\)\) and 3 more"):
        load_into(module, misshapen, tmp_path / "w.pth")


def test_sha256_is_that_of_the_standard(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
