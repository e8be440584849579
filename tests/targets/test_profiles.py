"""The built-in target profiles, what a broken one is told, and the verdict over made-up facts."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from targets import profile as profiles
from targets.check import Facts, Finding, check
from targets.errors import ProfileError, TargetError

EXPECTED = ("coral-edge-tpu", "desktop", "lut-mcu", "lut-phone", "mobile", "raspberry-pi-5")

MINIMAL = """\
name = "board"
title = "A board"

[device]
soc = "Some SoC"
architectures = ["aarch64"]

[deploy]
format = "tflite"
dtype = "int8"
recipe = "int8"
threads = 2
runtime = "a runtime"

[input]
height = 180
width = 320

[limits.file_bytes]
max = 1000
source = "manual"
why = "it does not fit"

[limits.peak_memory_bytes]
max = 2000
source = "manual"

[limits.latency_ms]
max = 50
source = "manual"
why = "it stutters"

[operators]
supported = ["ADD", "CONV_2D"]
source = "manual"

[sources.manual]
what = "The manual"
date = 2026-11-22
"""

FITS = Facts(
    format="tflite",
    dtype="int8",
    file_bytes=1000,
    operators={"CONV_2D": 3, "ADD": 1},
    peak_memory_bytes=2000,
    latency_ms=50.0,
    input_size=(180, 320),
    host="aarch64",
    quality=31.0,
    float_quality=32.0,
    floor_quality=28.0,
    unit="dB",
)


def written(folder: Path, text: str) -> Path:
    path = folder / "board.toml"
    path.write_text(text, encoding="utf-8")
    return path


def board(folder: Path, old: str = "", new: str = "") -> profiles.TargetProfile:
    """The minimal profile with one piece of its text replaced."""
    assert old in MINIMAL
    return profiles.load_file(written(folder, MINIMAL.replace(old, new, 1) if old else MINIMAL))


def found(facts: Facts, profile: profiles.TargetProfile) -> dict[str, Finding]:
    return {finding.what: finding for finding in check(facts, profile).findings}


def but(**changes: Any) -> Facts:
    return dataclasses.replace(FITS, **changes)


# -- the built-in profiles


def test_the_profiles_are_found_by_name() -> None:
    assert set(EXPECTED) <= set(profiles.names())


@pytest.mark.parametrize("name", profiles.names())
def test_profile_loads_under_its_own_name(name: str) -> None:
    assert profiles.load(name).name == name


@pytest.mark.parametrize("name", profiles.names())
def test_every_source_is_used_and_every_used_source_exists(name: str) -> None:
    profile = profiles.load(name)
    limits = profile.limits
    parts = (limits.file_bytes, limits.peak_memory_bytes, limits.latency_ms, profile.operators)
    used = {part.source for part in parts if part is not None}
    for note in profile.notes:
        used |= set(re.findall(r"\(source: ([a-z0-9-]+)\)", note))
    assert used == set(profile.sources)


@pytest.mark.parametrize("name", profiles.names())
def test_sources_have_an_address_or_name_a_file_of_measurements(name: str, repository: Path) -> None:
    for source in profiles.load(name).sources.values():
        ours = re.match(r"benchmarks/results/\w+\.json", source.what)
        assert source.url.startswith("https://") or ".csv" in source.what or (ours and (repository / ours[0]).is_file())


@pytest.mark.parametrize("name", profiles.names())
def test_limits_say_why(name: str) -> None:
    limits = profiles.load(name).limits
    for limit in (limits.file_bytes, limits.peak_memory_bytes, limits.latency_ms):
        assert limit is None or limit.why


@pytest.mark.parametrize("name", profiles.names())
def test_operators_are_named_as_in_the_flatbuffer_schema(name: str) -> None:
    profile = profiles.load(name)
    if profile.deploy.format != "tflite" or profile.operators is None:
        pytest.skip("no TFLite operators")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    supported = profile.operators.supported
    assert len(set(supported)) == len(supported)
    assert [op for op in supported if not hasattr(schema.BuiltinOperator, op)] == []


def test_one_runtime_has_one_list_of_operators() -> None:
    phone, pi = profiles.load("mobile").operators, profiles.load("raspberry-pi-5").operators
    assert phone is not None
    assert pi is not None
    assert phone.supported == pi.supported


# -- what a broken profile is told


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(TargetError, match=r"unknown target 'mobil'; did you mean 'mobile'\?"):
        profiles.load("mobil")


def test_name_far_from_all_still_lists_what_there_is() -> None:
    with pytest.raises(TargetError) as caught:
        profiles.load("zzzz")
    assert "did you mean" not in str(caught.value)
    assert all(name in str(caught.value) for name in EXPECTED)


def test_path_is_loaded_as_a_file(tmp_path: Path) -> None:
    assert profiles.load(str(written(tmp_path, MINIMAL))).name == "board"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="absent"):
        profiles.load_file(tmp_path / "absent.toml")


def test_bad_toml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"board\.toml.*line 5"):
        board(tmp_path, 'soc = "Some SoC"', "soc = ")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("title =", "titel =", r"unknown key 'titel'; did you mean 'title'\?"),
        ("threads = 2", "thread = 2", r"unknown key 'deploy\.thread'; did you mean 'threads'\?"),
        (
            "[limits.latency_ms]",
            "[limits.latncy]",
            r"unknown key 'limits\.latncy'; did you mean 'latency_ms'\?",
        ),
        (
            "max = 50",
            "maxx = 50",
            r"unknown key 'limits\.latency_ms\.maxx'; did you mean 'max'\?",
        ),
        (
            'what = "The manual"',
            'waht = "The manual"',
            r"unknown key 'sources\.manual\.waht'; did you mean 'what'\?",
        ),
    ],
)
def test_unknown_key_names_the_nearest(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(ProfileError, match=told):
        board(tmp_path, old, new)


def test_limit_with_an_unknown_source(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"'hearsay' is not in \[sources\]; known: manual"):
        board(tmp_path, 'source = "manual"', 'source = "hearsay"')


def test_limit_without_a_source(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"limits\.file_bytes\.source"):
        board(tmp_path, 'source = "manual"\n', "")


def test_operators_with_an_unknown_source(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="source 'hearsay'"):
        board(
            tmp_path,
            '"CONV_2D"]\nsource = "manual"',
            '"CONV_2D"]\nsource = "hearsay"',
        )


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("max = 1000", "max = 0", "limits.file_bytes.max"),
        ("threads = 2", "threads = 0", "deploy.threads"),
        ('dtype = "int8"', 'dtype = "int4"', "deploy.dtype"),
        ("date = 2026-11-22", 'date = "last week"', "sources.manual.date"),
        ('name = "board"', 'name = "Board 1"', "name"),
    ],
)
def test_value_out_of_range_names_its_place(tmp_path: Path, old: str, new: str, where: str) -> None:
    with pytest.raises(ProfileError, match=re.escape(where)):
        board(tmp_path, old, new)


# -- the verdict


def test_file_at_every_limit_passes(tmp_path: Path) -> None:
    verdict = check(FITS, board(tmp_path))
    assert verdict.target == "board"
    assert verdict.passed
    assert {f.what: f.status for f in verdict.findings} == {
        "quality": "pass",
        "format": "pass",
        "dtype": "pass",
        "operators": "pass",
        "file size": "pass",
        "peak memory": "pass",
        "latency": "pass",
    }


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        (but(dtype="float32"), "dtype"),
        (but(file_bytes=1001), "file size"),
        (but(peak_memory_bytes=2001), "peak memory"),
        (but(latency_ms=50.1), "latency"),
    ],
)
def test_one_failure_fails_the_file(tmp_path: Path, facts: Facts, what: str) -> None:
    verdict = check(facts, board(tmp_path))
    assert not verdict.passed
    assert [f.what for f in verdict.findings if f.status == "fail"] == [what]


def test_failure_says_why(tmp_path: Path) -> None:
    assert found(but(file_bytes=1001), board(tmp_path))["file size"].note == "it does not fit"


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        (but(peak_memory_bytes=None), "peak memory"),
        (but(latency_ms=None), "latency"),
    ],
)
def test_what_was_not_measured_is_unknown(tmp_path: Path, facts: Facts, what: str) -> None:
    verdict = check(facts, board(tmp_path))
    assert [f.what for f in verdict.findings if f.status == "unknown"] == [what]
    assert verdict.passed


@pytest.mark.parametrize("latency", [0.1, 5000.0])
def test_latency_on_another_architecture_is_unknown(tmp_path: Path, latency: float) -> None:
    finding = found(but(host="x86_64", latency_ms=latency), board(tmp_path))["latency"]
    assert finding.status == "unknown"
    assert "Some SoC" in finding.note


def test_latency_is_judged_at_the_size_that_was_timed(tmp_path: Path) -> None:
    """A classifier's own size, or what --input-size asked for, not the profile's."""
    finding = found(but(input_size=(32, 48), latency_ms=51.0), board(tmp_path))["latency"]
    assert finding.status == "fail"
    assert finding.expected == "at most 50 ms for 48x32"
    assert found(FITS, board(tmp_path))["latency"].expected == "at most 50 ms for 320x180"


def test_per_cent_are_judged_and_named_as_such() -> None:
    facts = but(quality=9.0, float_quality=90.0, floor_quality=10.0, unit="%")
    (finding,) = [f for f in check(facts, profiles.load("mobile")).findings if f.what == "quality"]
    assert finding.status == "fail"
    assert finding.found == "9.00 %, 81.00 % below the network"
    (good,) = [
        f
        for f in check(
            but(quality=89.0, float_quality=90.0, floor_quality=10.0, unit="%"), profiles.load("mobile")
        ).findings
        if f.what == "quality"
    ]
    assert good.status == "pass"


def test_operator_off_a_slow_device_is_unknown(tmp_path: Path) -> None:
    verdict = check(but(operators={"CONV_2D": 3, "SOFTMAX": 2}), board(tmp_path))
    finding = next(f for f in verdict.findings if f.what == "operators")
    assert finding.status == "unknown"
    assert finding.found.startswith("3 of 5")
    assert "SOFTMAX x2" in finding.note
    assert verdict.passed


def test_operator_off_a_refusing_device_fails(tmp_path: Path) -> None:
    profile = board(tmp_path, "[operators]", '[operators]\nfallback = "refused"')
    verdict = check(but(operators={"CONV_2D": 3, "SOFTMAX": 2}), profile)
    finding = next(f for f in verdict.findings if f.what == "operators")
    assert finding.status == "fail"
    assert "SOFTMAX x2" in finding.note
    assert not verdict.passed


def test_operators_of_another_format_are_not_judged(tmp_path: Path) -> None:
    findings = found(but(format="onnx", operators={"Conv": 3}), board(tmp_path))
    assert findings["format"].status == "fail"
    assert "operators" not in findings


def test_unknown_operator_list_is_not_judged(tmp_path: Path) -> None:
    profile = board(tmp_path, 'supported = ["ADD", "CONV_2D"]\n')
    assert "operators" not in found(FITS, profile)


def test_profile_without_limits_judges_format_dtype_and_quality_only() -> None:
    desktop = profiles.load("desktop")
    bare = desktop.model_copy(update={"limits": profiles.Limits(), "operators": None})
    facts = but(format="openvino", latency_ms=9e9, file_bytes=10**12)
    assert [f.what for f in check(facts, bare).findings] == ["format", "dtype", "quality"]


def test_pixel_shuffle_is_fast_on_a_phone_and_not_known_to_be_on_the_edge_tpu() -> None:
    facts = but(operators={"CONV_2D": 21, "DEPTH_TO_SPACE": 1})
    assert found(facts, profiles.load("mobile"))["operators"].status == "pass"
    assert found(facts, profiles.load("coral-edge-tpu"))["operators"].status == "unknown"


def test_weights_beyond_the_edge_tpu_memory_fail() -> None:
    coral = profiles.load("coral-edge-tpu")
    assert found(but(file_bytes=8 * 2**20), coral)["file size"].status == "pass"
    assert found(but(file_bytes=8 * 2**20 + 1), coral)["file size"].status == "fail"


def test_a_file_no_better_than_the_trivial_method_fails() -> None:
    broken = but(quality=28.0)
    (finding,) = [f for f in check(broken, profiles.load("mobile")).findings if f.what == "quality"]
    assert finding.status == "fail"
    assert "4.00 dB below the network" in finding.found


def test_a_score_that_is_not_a_number_fails() -> None:
    (finding,) = [f for f in check(but(quality=float("nan")), profiles.load("mobile")).findings if f.what == "quality"]
    assert finding.status == "fail"
