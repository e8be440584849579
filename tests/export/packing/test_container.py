"""Files packed and unpacked: every byte comes back, and no damage goes unseen."""

import contextlib
import hashlib
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.errors import ExportError
from export.packing.container import pack, unpack
from export.packing.regions import Region, regions_of


def sparse(rows, columns, share, kind=np.float32, seed=0):
    random = np.random.default_rng(seed)
    values = np.where(random.random((rows, columns)) < share, random.normal(0, 1, (rows, columns)), 0.0)
    return (values * 40).astype(kind) if np.issubdtype(kind, np.integer) else values.astype(kind)


def repacked(packed, body):
    """The header's checksum made to fit another body."""
    return packed[:10] + struct.pack("<I", zlib.crc32(body)) + body


@given(st.data())
def test_any_bytes_with_any_tensors_come_back(data):
    parts, regions, end = [], [], 0
    for _ in range(data.draw(st.integers(0, 4))):
        before = data.draw(st.binary(max_size=9))
        rows, columns = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 70))
        item = data.draw(st.sampled_from([1, 2, 4]))
        seed, share = data.draw(st.integers(0, 99)), data.draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
        random = np.random.default_rng(seed)
        words = random.integers(0, 256, (rows * columns, item), np.uint8)
        words[random.random(rows * columns) >= share] = 0
        regions.append(Region(end + len(before), rows, columns, item))
        parts += [before, words.tobytes()]
        end = regions[-1].end
    whole = b"".join(parts) + data.draw(st.binary(max_size=9))
    packed, summary = pack(whole, regions)
    assert unpack(packed, "x") == whole
    assert summary.numbers == sum(r.count for r in regions) and summary.packed_bytes == len(packed)


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int8])
def test_odd_values_come_back(kind):
    values = np.array([0, 1, -1, 100, -100, 0, 0, 5] * 3, kind)
    if kind != np.int8:
        values[:5] = [-0.0, np.nan, np.inf, -np.inf, np.finfo(kind).tiny / 8]
    whole = b"abc" + values.tobytes()
    packed, summary = pack(whole, [Region(3, 4, 6, values.itemsize)])
    assert unpack(packed, "x") == whole
    negative_zeros = 1 if kind != np.int8 else 0
    assert summary.nonzeros == np.count_nonzero(values) + negative_zeros, "minus zero must come back as it is"
    assert summary.minus_zeros == negative_zeros


@pytest.mark.parametrize("share", [0.1, 0.05, 0.01])
def test_random_weights_take_little_more_than_their_entropy(share):
    values = sparse(200, 500, share)
    _, summary = pack(values.tobytes(), [Region(0, 200, 500, 4)])
    nonzeros = int(np.count_nonzero(values))
    assert summary.nonzeros == nonzeros and summary.numbers == 100_000
    p = nonzeros / 100_000
    bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)) / p
    assert summary.position_bound == pytest.approx(bits * nonzeros / 8)
    assert summary.bound_per_nonzero < summary.bytes_per_nonzero < 1.05 * summary.bound_per_nonzero


def test_zeros_that_lie_in_columns_take_less_than_their_entropy():
    """Places are walked along the columns where that is smaller."""
    values = sparse(64, 900, 1.0)
    values[:, np.random.default_rng(1).random(900) < 0.9] = 0
    _, summary = pack(values.tobytes(), [Region(0, 64, 900, 4)])
    assert summary.position_bytes < 0.1 * summary.position_bound


PACKED = pack(b"head" + sparse(30, 40, 0.1).tobytes() + b"tail", [Region(4, 30, 40, 4)])[0]


@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unseen(place, change):
    damaged = PACKED[:place] + bytes([PACKED[place] ^ change]) + PACKED[place + 1 :]
    with pytest.raises(ExportError, match=r"it\.packed: "):
        unpack(damaged, "it.packed")


@given(st.integers(0, len(PACKED) - 1))
def test_no_missing_end_goes_unseen(length):
    with pytest.raises(ExportError, match=r"cut short|not a packed file"):
        unpack(PACKED[:length], "it.packed")


def test_messages_say_what_is_wrong():
    with pytest.raises(ExportError, match=r"^a: not a packed file, it does not begin with EDGEPACK; give one of"):
        unpack(b"something else", "a")
    with pytest.raises(ExportError, match="cut short after 20 bytes, within its header"):
        unpack(PACKED[:20], "a")
    with pytest.raises(ExportError, match="packed as version 7, this program reads 1; update edgepress"):
        unpack(PACKED[:8] + b"\x07\x00" + PACKED[10:], "a")
    body = PACKED[14:]
    with pytest.raises(ExportError, match=r"not the one packed \(SHA-256\)"):
        unpack(repacked(PACKED, bytes(32) + body[32:]), "a")
    with pytest.raises(ExportError, match="made by something else than this program"):
        unpack(repacked(PACKED, body[:50]), "a")


@given(st.integers(41, len(PACKED) - 15), st.integers(1, 255))
def test_a_file_made_to_deceive_is_an_error_like_any_other(place, change):
    body = bytearray(PACKED[14:])
    body[place] ^= change
    with contextlib.suppress(ExportError):
        assert unpack(repacked(PACKED, bytes(body)), "a").startswith(b"head"), "a change that the coder does not read"


def test_tensors_of_safetensors_are_found(tmp_path):
    from safetensors.numpy import save_file

    tensors = {"a": sparse(8, 9, 0.2), "b": np.ones(5, np.float16), "c": np.arange(4), "d": np.zeros((0, 3), np.int8)}
    path = tmp_path / "w.safetensors"
    save_file(tensors, path, {"note": "hello"})
    data = path.read_bytes()
    found = regions_of(path, data)
    assert sorted((r.rows, r.columns, r.item) for r in found) == [(1, 5, 2), (8, 9, 4)], "int64 is left to the rest"
    place = next(r for r in found if r.item == 4)
    assert data[place.start : place.end] == tensors["a"].tobytes()
    packed, summary = pack(data, found)
    assert unpack(packed, "x") == data and hashlib.sha256(data).digest() in packed
    assert summary.nonzeros == np.count_nonzero(tensors["a"]) + 5


def test_weights_of_onnx_are_found(tmp_path):
    onnx = pytest.importorskip("onnx")
    tensors = {"a": sparse(8, 9, 0.2), "b": sparse(300, 7, 0.5, np.int8), "c": np.arange(4)}
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in tensors.items()]
    initializers.append(onnx.helper.make_tensor("d", onnx.TensorProto.FLOAT, [2], [1.0, 2.0]))
    path = tmp_path / "w.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], initializers)), str(path))
    data = path.read_bytes()
    found = regions_of(path, data)
    assert [data[r.start : r.end] for r in found] == [tensors["a"].tobytes(), tensors["b"].tobytes()]
    assert [(r.rows, r.columns, r.item) for r in found] == [(8, 9, 4), (300, 7, 1)]


def test_weights_of_tflite_are_found(tmp_path):
    pytest.importorskip("ai_edge_litert")
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    weight = sparse(6, 20, 0.3)
    model, graph = schema.ModelT(), schema.SubGraphT()
    buffers = [schema.BufferT(), schema.BufferT()]
    buffers[1].data = np.frombuffer(weight.tobytes(), np.uint8)
    tensors = [schema.TensorT(), schema.TensorT(), schema.TensorT()]
    for tensor, shape, buffer in zip(tensors, ([1, 6], [6, 20], [6, 20]), (0, 1, 1), strict=True):
        tensor.shape, tensor.buffer, tensor.type = shape, buffer, schema.TensorType.FLOAT32
    graph.tensors = tensors
    model.version, model.subgraphs, model.buffers = 3, [graph], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    data = bytes(builder.Output())
    found = regions_of(tmp_path / "w.tflite", data)
    assert [(r.rows, r.columns, r.item) for r in found] == [(6, 20, 4)], "a shared buffer counts once"
    assert data[found[0].start : found[0].end] == weight.tobytes()


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx", ".tflite"])
@pytest.mark.parametrize("data", [b"", b"\xff" * 100, bytes(range(256))], ids=["empty", "ones", "count"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, suffix, data):
    path = tmp_path / f"w{suffix}"
    if suffix == ".onnx" and not data:
        assert regions_of(path, data) == [], "nothing is a protobuf message too"
        return
    with pytest.raises(ExportError, match=f"w{suffix}: not a readable {suffix} file"):
        regions_of(path, data)


def test_a_file_of_another_kind_is_told_which_could_be_packed(tmp_path):
    with pytest.raises(ExportError, match=r"found a \.pth file, expected one of \.safetensors, \.onnx, \.tflite"):
        regions_of(tmp_path / "w.pth", b"")


def test_tensors_that_overlap_are_taken_once(tmp_path):
    header = {
        "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        "b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]},
        "c": {"dtype": "F32", "shape": [400], "data_offsets": [24, 1624]},
    }
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + bytes(24)
    assert [r.start - 8 - len(text) for r in regions_of(tmp_path / "w.safetensors", data)] == [0]
