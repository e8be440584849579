"""``compress diagnose``: what is found out, and how it is shown."""

import json
import re
from dataclasses import replace

import pydantic
import pytest
import torch
from torch import nn

from compress import diagnose, zoo
from compress.cli import main
from compress.diagnose import Conversion, Diagnosis, input_size, to_json
from compress.errors import UsageError, WeightsError
from compress.network import CLASSIFICATION, RESTORATION, Network, WeightsSource
from compress.progress import SILENT
from compress.report import diagnosis as page
from export import formats
from export.errors import ExportError, MissingRuntimeError


def network(module, **changes):
    given = Network("made-up", module.eval(), 1, 3, WeightsSource(None, "0" * 64, builtin=False), task=RESTORATION)
    return replace(given, **changes)


def look(module, size=(32, 40), wanted=(), **changes):
    return diagnose.diagnose(network(module, **changes), size, wanted, SILENT)


def chain(depth, width=8):
    """A long plain network with trained-looking kernels, some of them dead and some all alike."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3 if n == 0 else width, 3 if n == depth - 1 else width, 3, padding=1) for n in range(depth)]
    with torch.no_grad():
        layers[3].weight[: width // 2] = 0.0
        layers[5].weight.copy_(layers[5].weight[:1, :1] * torch.rand(width, width, 1, 1))
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def span():
    """A small SPAN, converted to ONNX."""
    return diagnose.diagnose(zoo.load("span"), (32, 48), ("onnx",), SILENT)


def test_the_deployed_form_is_diagnosed():
    given = zoo.fresh("span", scale=4, channels=8)
    found = diagnose.diagnose(given, (32, 48), (), SILENT)
    assert found.training_parameters == sum(p.numel() for p in given.module.parameters()) > found.cost.parameters
    assert found.cost.layers[0].kind == "Conv2d" and len(found.filters) == 22 and found.random
    assert found.conversions == ()
    assert found.weights == "random values, never trained"


def test_all_sides_of_a_network_are_found(span):
    assert (span.network, span.scale, span.input_size, span.receptive_field) == ("span", 4, (32, 48), 21)
    assert span.weights == "span_x4.safetensors, built in" and span.training_parameters is None and not span.random
    assert span.cost.input_shape == (1, 3, 32, 48)
    (onnx,) = span.conversions
    assert (onnx.status, onnx.reason, onnx.refused_operator) == ("converts", "", None)
    assert onnx.operators["Conv"] == 22 and onnx.operators["DepthToSpace"] == 1 and onnx.file_bytes > 4 * 200_000
    assert list(onnx.operators.values()) == sorted(onnx.operators.values(), reverse=True)
    assert {"edgepress", "torch", "onnxruntime"} <= set(span.versions)
    assert [f.name for f in span.filters] == [x.name for x in span.cost.layers if x.kind == "Conv2d"]


def test_json_holds_everything(span):
    assert pydantic.TypeAdapter(Diagnosis).validate_json(to_json(span)) == span
    values = json.loads(to_json(span))
    assert values["cost"]["layers"][0]["macs"] == span.cost.layers[0].macs


class Unusual(nn.Module):
    """Calls an operator that no format has."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return torch.special.bessel_j0(self.conv(x))


def test_a_refusal_names_the_operator():
    (onnx,) = look(Unusual(), wanted=("onnx",)).conversions
    assert (onnx.status, onnx.refused_operator, onnx.file_bytes, onnx.operators) == (
        "refused",
        "prims.bessel_j0",
        None,
        {},
    )
    assert "No ONNX function found" in onnx.reason and "\n" not in onnx.reason and len(onnx.reason) <= 300


@pytest.mark.parametrize(
    ("text", "operator"),
    [
        ("Lowering not found: aten.special_bessel_j0.default", "aten.special_bessel_j0"),
        ("%x = call_function[target=torch.ops.aten._to_copy.default](args = (%p,))", "aten._to_copy"),
        ("No ONNX function found for <OpOverload(op='torchvision.nms', overload='default')>", "torchvision.nms"),
        ("could not translate aten::grid_sampler", "aten.grid_sampler"),
        ("Could not guard on data-dependent expression Eq(u0, 1)", None),
    ],
)
def test_operators_are_found_in_messages(monkeypatch, text, operator):
    def fail(*_):
        raise ExportError("tflite float32: the converter failed") from RuntimeError(f"{text}\n\nand more")

    monkeypatch.setattr(formats, "write", fail)
    (found,) = look(nn.Conv2d(3, 3, 1), wanted=("tflite",)).conversions
    assert found.refused_operator == operator and found.reason == f"RuntimeError: {text}"


def test_a_format_that_is_not_installed_is_no_refusal(monkeypatch):
    def fail(*_):
        raise MissingRuntimeError("format onnx needs package onnx, which is not installed; pip install it")

    monkeypatch.setattr(formats, "write", fail)
    (found,) = look(nn.Conv2d(3, 3, 1), wanted=("onnx",)).conversions
    assert found.status == "not installed" and found.reason.endswith("pip install it")


def test_an_unknown_format_is_refused_before_the_work():
    with pytest.raises(ExportError, match="did you mean 'onnx'"):
        look(nn.Conv2d(3, 3, 1), wanted=("onx",))


def test_a_classifier_has_no_receptive_field():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    found = look(module, None, task=CLASSIFICATION, classes=5, input_size=(24, 28))
    assert (found.receptive_field, found.input_size, found.classes) == (None, (24, 28), 5)
    assert "Receptive field" not in [label for label, _, _ in page._tiles(found)]


def test_a_network_that_sees_everything_has_no_radius():
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Softmax(dim=-1), nn.Softmax(dim=-2))
    assert look(module).receptive_field is None


@pytest.mark.parametrize(
    ("unit", "only", "wanted", "expected"),
    [
        (1, None, None, (256, 256)),
        (48, None, None, (288, 288)),
        (1, (224, 192), None, (224, 192)),
        (1, (224, 192), (224, 192), (224, 192)),
        (8, None, (64, 80), (64, 80)),
    ],
)
def test_the_input_size(unit, only, wanted, expected):
    assert input_size(network(nn.Identity(), unit=unit, input_size=only), wanted) == expected


def test_a_size_that_the_network_does_not_take_is_refused_with_one_that_it_does():
    with pytest.raises(UsageError, match=r"--input-size 60x64: made-up needs multiples of 8, such as 64x64"):
        input_size(network(nn.Identity(), unit=8), (60, 64))
    with pytest.raises(UsageError, match=r"made-up takes 224x224 only; leave it out"):
        input_size(network(nn.Identity(), input_size=(224, 224)), (192, 192))


def test_weights_that_are_not_finite_are_refused():
    module = nn.Sequential(nn.Conv2d(3, 3, 3))
    module[0].weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(WeightsError, match="0: 1 of 81 weights are not finite"):
        look(module)


def test_nothing_of_the_network_is_changed():
    given = zoo.fresh("span", scale=4, channels=8)
    before = {k: v.clone() for k, v in given.module.state_dict().items()}
    diagnose.diagnose(given, (32, 32), (), SILENT)
    assert all(torch.equal(v, before[k]) for k, v in given.module.state_dict().items())


@pytest.fixture(scope="module")
def shown(span):
    """The page of the small SPAN, with formats that did not work out added."""
    failed = Conversion("tflite", "refused", 1.0, None, {}, "RuntimeError: <none> & more", "aten.fold")
    absent = Conversion("openvino", "not installed", 0.0, None, {}, "pip install it", None)
    return page.html(replace(span, conversions=(*span.conversions, failed, absent)))


def test_the_page_shows_everything(shown, span):
    assert "<title>span x4: diagnosis</title>" in shown
    assert f"<b>{span.cost.parameters:,}</b>" in shown and "43 x 43" in shown and "21 pixels each way" in shown
    assert all(f"<td>{layer.name}</td>" in shown for layer in span.cost.layers if layer.macs)
    assert "Conv<b>22</b>" in shown
    assert "<code>aten.fold</code> RuntimeError: &lt;none&gt; &amp; more" in shown
    assert 'class="badge not-installed"' in shown and "pip install it" in shown
    assert shown.count("<svg") == 2 and "<details open>" in shown


def test_the_page_needs_no_other_file(shown):
    assert not re.search(r"<(script|link|img|iframe)\b|url\(|@import", re.sub(r'url\(#\w+\)"', '"', shown))
    clips = set(re.findall(r"url\(#(\w+)\)", shown))
    assert clips and all(shown.count(f'id="{clip}"') == 1 for clip in clips), "each plot has its own"


def test_the_page_is_the_same_each_time(span):
    assert page.html(span) == page.html(span)


def test_a_long_network_is_folded_and_its_bars_are_numbered():
    found = look(chain(230), (16, 16))
    text = page.html(found)
    assert "<details><summary>230 layers" in text and text.count("<tr>") == 231
    assert "numbers as in the table" in text
    assert "1 sparse, 1 redundant" in page.headline(found)


def test_names_are_shown_as_they_are():
    module = nn.Sequential()
    module.add_module("<i>$a_1$&--></i>", nn.Conv2d(3, 3, 3, padding=1))
    found = look(module)
    text = page.html(found)
    assert "<i>" not in text and "&lt;i&gt;$a_1$&amp;--&gt;&lt;/i&gt;" in text
    assert "<i>$a_1$&--></i>" in page.text(found)


def test_random_kernels_are_not_discussed():
    found = diagnose.diagnose(zoo.fresh("span", scale=2, channels=8), (16, 16), (), SILENT)
    text = page.html(found)
    assert "The weights are random" in text and "Kernel health" not in text and text.count("<svg") == 1
    assert "kernels" not in page.headline(found)


def test_a_network_without_convolutions_has_no_kernel_plot():
    found = look(nn.Sequential(nn.Linear(40, 40), nn.ReLU()))
    assert page.html(found).count("<svg") == 1 and found.filters == ()


def test_a_network_without_anything_is_shown_too():
    found = look(nn.Identity())
    assert "0 MACs" in page.headline(found) and "<svg" in page.html(found)


def test_the_terminal_shows_the_largest_layers_and_the_totals(span):
    lines = page.text(span).splitlines()
    assert lines[0] == "span x4, span_x4.safetensors, built in"
    assert [len(line.split("Conv2d")) for line in lines].count(2) == 20
    assert "20 of 22 layers, by MACs" in lines
    (total,) = [line for line in lines if "total" in line]
    assert f"{span.cost.parameters:,}" in total
    (onnx,) = [line for line in lines if line.startswith("  onnx")]
    assert "Conv 22" in onnx


def test_three_layers_that_hold_much_are_mentioned():
    wide = nn.Sequential(*(nn.Conv2d(3, 64 if n == 2 else 3, 3) if n != 3 else nn.Conv2d(64, 3, 3) for n in range(6)))
    assert re.search(r"; \d\d % of the MACs in 3 of 6 layers", page.headline(look(wide)))
    assert "% of the MACs" not in page.headline(look(chain(12)))


def test_modules_run_twice_or_never_are_marked():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.twice, self.never = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.twice(self.twice(x))

    kinds = {row.name: row.kind for row in page.rows(look(Shared()))}
    assert kinds == {"twice": "Conv2d x2", "never": "Conv2d, not run"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1 k"), (27_868_004_352, "27.87 G"), (1.5e12, "1.5 T"), (26577.2, "26.58 k")],
)
def test_large_numbers_have_four_digits(value, text):
    assert page._metric(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"), (3 * 2**30, "3.0 GiB")])
def test_bytes(value, text):
    assert page._binary(value) == text


def test_the_command_writes_a_page_and_prints_a_table(capsys, tmp_path):
    out = tmp_path / "new" / "folder"
    assert main(["diagnose", "span", "--no-export", "--input-size", "32x48", "--out", str(out), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert "20 of 22 layers" in printed.out and printed.out.endswith(f"page: {out / 'diagnose.html'}\n")
    assert printed.err == ""
    assert (out / "diagnose.html").read_text().startswith("<!doctype html>")


def test_the_page_can_be_given_its_name(capsys, tmp_path):
    arguments = ["diagnose", "span", "--random", "--scale", "2", "--model-arg", "channels=8", "--no-export", "--quiet"]
    assert main([*arguments, "--out", str(tmp_path / "x.html")]) == 0
    assert "span x2, random values" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["x.html"]


def test_json_alone_goes_to_stdout_and_writes_no_page(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["diagnose", "span", "--no-export", "--input-size", "16x16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["network"] == "span" and found["input_size"] == [16, 16] and found["conversions"] == []
    assert list(tmp_path.iterdir()) == []


def test_one_format_can_be_asked_for(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["diagnose", "span", "--format", "onnx", "--input-size", "16x16"]
    assert main([*arguments, "--json"]) == 0
    assert [c["format"] for c in json.loads(capsys.readouterr().out)["conversions"]] == ["onnx"]
    assert main([*arguments, "--no-export"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spam"], "did you mean 'span'"),
        (["span", "--format", "onx"], "did you mean 'onnx'"),
        (["span", "--input-size", "wide"], "HEIGHTxWIDTH"),
        ([], "MODEL"),
    ],
)
def test_bad_input_is_told(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["diagnose", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
