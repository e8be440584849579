"""The roofline by hand and against its twin, fits that find what made the times, abstention, stored models."""

import dataclasses
import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets import latency
from targets.errors import TargetError
from targets.fitting import DEFAULT, Measured, fit
from targets.judging import half_width, held, score, spearman
from targets.roofline import BYTES, Columns, Roofline, columns, predict_ms
from targets.support import supported
from targets.workload import KINDS, Operator, Workload, from_json, to_json

PLAIN = dataclasses.replace(
    DEFAULT, fixed_us=100, launch_us=10, dense_gmacs=1000, on_chip_gbytes=100, off_chip_gbytes=10, weight_gbytes=10
)
PLAIN = dataclasses.replace(PLAIN, on_chip_mbytes=1, align_in=16, align_out=16)


def net(*operators, name="net"):
    return Workload(name, (1, 3, 8, 8), operators)


def ms(line, workload, dtype="int8"):
    return float(predict_ms(line, columns(workload), dtype)[0])


def test_a_convolution_bound_by_compute():
    # 1e9 MACs at 1e12 a second: 1 ms; 0.11 ms for the call and the launch
    assert ms(PLAIN, net(Operator("conv", 10**9, 1000, 1000, 0, 16, 16, 9))) == pytest.approx(1.11)


def test_unaligned_channels_pay_for_whole_blocks():
    # 17 of 32 input channels: 32 / 17 times the work
    op = Operator("conv", 17 * 10**8, 1000, 1000, 0, 17, 16, 9)
    assert ms(PLAIN, net(op)) == pytest.approx(0.11 + 3.2)


def test_activations_that_do_not_fit_spill():
    # 1 MB stays: 0.01 ms at 100 GB/s; with 2 MB, 1 MB more goes out at 10 GB/s: 0.02 + 0.1 ms
    fits, spills = Operator("conv", 1, 500_000, 500_000), Operator("conv", 1, 10**6, 10**6)
    assert ms(PLAIN, net(fits)) == pytest.approx(0.11 + 0.01)
    assert ms(PLAIN, net(spills)) == pytest.approx(0.11 + 0.12)


def test_weights_stream_at_their_own_bandwidth():
    assert ms(PLAIN, net(Operator("linear", 10**7, 0, 0, 10**7, 16, 16))) == pytest.approx(0.11 + 1.0)
    assert ms(PLAIN, net(Operator("linear", 10**7, 0, 0, 10**7, 16, 16)), "float") == pytest.approx(0.11 + 2.0)


COUNT = st.integers(0, 10**8)
CHANNELS = st.integers(1, 300)
OPERATOR = st.builds(Operator, st.sampled_from(KINDS), COUNT, COUNT, COUNT, COUNT, CHANNELS, CHANNELS)
RATE = st.floats(0.5, 1e4)
LINE = st.builds(Roofline, *[RATE] * 13, st.integers(1, 64), st.integers(1, 64))


@given(LINE, st.lists(OPERATOR, min_size=1, max_size=6), st.sampled_from(sorted(BYTES)))
def test_agrees_with_the_slow_sum(reference, line, operators, dtype):
    slow = reference("slow_latency").milliseconds(line, operators, *BYTES[dtype])
    assert ms(line, net(*operators), dtype) == pytest.approx(slow)


@given(LINE, OPERATOR, COUNT, st.sampled_from(["macs", "read", "written", "weights"]))
def test_more_work_is_never_faster(line, operator, more, field):
    larger = dataclasses.replace(operator, **{field: getattr(operator, field) + more})
    assert ms(line, net(larger)) >= ms(line, net(operator))


@given(LINE, st.lists(st.lists(OPERATOR, min_size=1, max_size=4), min_size=1, max_size=4))
def test_networks_held_together_are_predicted_alone(line, several):
    parts = [columns(net(*ops)) for ops in several]
    together = predict_ms(line, Columns.joined(parts), "int8")
    np.testing.assert_allclose(together, [predict_ms(line, p, "int8")[0] for p in parts])


def made_up(count=24):
    """Chains of convolutions of many widths, depths and frames."""
    drawn = random.Random(0)
    nets = []
    for number in range(count):
        width, depth, pixels = drawn.choice([16, 32, 64, 128]), drawn.randint(3, 30), drawn.choice([32, 64, 128]) ** 2
        op = Operator("conv", 9 * width**2 * pixels, width * pixels, width * pixels, 9 * width**2, width, width, 9)
        nets.append(net(*[op] * depth, name=f"net{number}"))
    return nets


def test_a_fit_finds_the_coefficients_that_made_the_times():
    truth = dataclasses.replace(DEFAULT, fixed_us=400, launch_us=5, dense_gmacs=4000, on_chip_gbytes=80)
    nets = made_up()
    line = fit([Measured(n.name, columns(n), ms(truth, n)) for n in nets[4:]], "int8", noise=0.02)
    for left_out in nets[:4]:
        assert ms(line, left_out) == pytest.approx(ms(truth, left_out), rel=0.03)
    assert line.dense_gmacs == pytest.approx(4000, rel=0.1)


def test_one_wild_time_does_not_move_the_fit():
    nets = made_up()
    points = [Measured(n.name, columns(n), ms(DEFAULT, n)) for n in nets]
    points[0] = dataclasses.replace(points[0], ms=points[0].ms * 50)
    assert ms(fit(points, "int8"), nets[5]) == pytest.approx(ms(DEFAULT, nets[5]), rel=0.1)


def test_coefficients_that_nothing_tells_stay_where_they_start():
    points = [Measured(n.name, columns(n), ms(DEFAULT, n)) for n in made_up(6)]
    assert fit(points, "int8").depthwise_gmacs == pytest.approx(DEFAULT.depthwise_gmacs)


@pytest.mark.parametrize("field", ["dense_gmacs", "align_in"])
def test_a_rate_of_nothing_is_refused(field):
    with pytest.raises(TargetError, match=field):
        dataclasses.replace(DEFAULT, **{field: 0})


def conv(macs=10**8):
    return Operator("conv", macs, 10**5, 10**5)


SEEN = supported([net(conv()), net(conv(10**9)), net(conv(), Operator("softmax", 0, 9, 9))])


def test_abstains_on_an_operator_that_was_hardly_seen():
    assert "softmax operators are in 1 measured" in SEEN.refusal(net(conv(), Operator("softmax", 0, 9, 9)))
    assert "resize operators are in 0 measured" in SEEN.refusal(net(conv(), Operator("resize", 0, 9, 9)))


def test_abstains_out_of_range_and_not_inside():
    assert SEEN.refusal(net(conv(2 * 10**9))) == ""
    assert SEEN.refusal(net(conv(2 * 10**9 + 1))).startswith("MACs are 2e+09")
    assert SEEN.refusal(net(conv(5 * 10**7 - 1))).startswith("MACs are 5e+07")


def test_abstains_where_a_fall_back_is_likely():
    pair = [net(conv(), Operator("softmax", 0, 9, 9))] * 2
    support = supported([net(conv())] * 3 + pair, on_cpu=pair)
    assert "50% of the measured networks with softmax did" in support.refusal(pair[0])
    assert support.refusal(net(conv())) == ""


def test_scores_by_hand():
    found = score([1.0, 2.18, 3.0, 5.0], [1.0, 2.0, 4.0, 4.0])
    assert found.median_error == pytest.approx(0.17)
    assert (found.within_10, found.within_20) == (0.5, 0.5)
    assert found.coverage is None  # three others tell no 90 % interval


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=12))
def test_spearman_agrees_with_the_slow_one(reference, pairs):
    one, two = zip(*pairs, strict=True)
    if len(set(one)) > 1 and len(set(two)) > 1:
        assert spearman(one, two) == pytest.approx(reference("slow_latency").spearman(one, two))


def test_a_conformal_interval_by_hand():
    residuals = np.array([-9.0, *range(1, 9)])
    assert half_width(residuals) == 9  # ceil(10 * 0.9) = the ninth of nine
    assert half_width(residuals[:8]) is None
    assert half_width(np.arange(19.0)) == 17


def test_intervals_hold_as_often_as_they_say():
    drawn = np.random.default_rng(0)
    assert np.mean([held(drawn.normal(size=30)) for _ in range(40)]) == pytest.approx(0.9, abs=0.04)


def test_the_built_in_models_predict_without_a_framework():
    model = latency.built_in().find("Samsung Galaxy S24", "tflite", "w8a8")
    chain = [Operator("conv", 9 * 32 * 32 * 128**2, 32 * 128**2, 32 * 128**2, 9216, 32, 32, 9)] * 6
    found = model.predict(net(*chain))
    assert found.reason == ""
    assert 0.1 < found.low_ms < found.ms < found.high_ms < 1.0  # QuickSRNet of this size: 0.30 ms
    refused = latency.predict(net(*chain, Operator("volumetric", 1, 1, 1)), model.device, model.runtime, model.dtype)
    assert refused.ms is None
    assert "volumetric" in refused.reason


def test_an_unknown_device_names_the_nearest():
    with pytest.raises(TargetError, match="did you mean 'Samsung Galaxy S24 / tflite / w8a8'"):
        latency.built_in().find("Samsung Galaxy S24", "tflite", "w8a9")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "version 2, expected 1"),
        ({"models": [{"device": "x"}]}, "roofline"),
        ({"models": [{"roofline": {"fixed_us": 1.0}}]}, "missing or unknown"),
    ],
)
def test_a_broken_file_of_models_says_what_is_wrong(tmp_path, change, said):
    path = tmp_path / "models.json"
    path.write_text(json.dumps({"version": 1, "command": "", "date": "", "data": {}, "models": [], **change}))
    with pytest.raises(TargetError, match=said):
        latency.read(path)


def test_a_file_of_models_that_is_not_json(tmp_path):
    path = tmp_path / "models.json"
    path.write_text("{")
    with pytest.raises(TargetError, match=r"models\.json"):
        latency.read(path)


@given(st.lists(OPERATOR, max_size=5))
def test_a_workload_is_the_same_after_json(operators):
    before = net(*operators)
    assert from_json(json.loads(json.dumps(to_json(before)))) == before


def test_a_workload_with_an_unknown_kind():
    with pytest.raises(TargetError, match="operator 0"):
        from_json({"name": "x", "input_shape": [1], "operators": [["convolve", *[1] * 8]]})
