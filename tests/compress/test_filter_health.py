"""Filter health against the formulas written out, and at their edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import WeightsError
from compress.filter_health import judge, orthogonality, random_threshold, sparsity, variance_entropy


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def dirac(outputs, inputs):
    """Every kernel a lone centre tap of another height: one direction only."""
    weight = np.zeros((outputs, inputs, 3, 3))
    weight[:, :, 1, 1] = 0.5 + np.arange(outputs * inputs).reshape(outputs, inputs) / (outputs * inputs)
    return weight


@given(st.integers(2, 6), st.integers(2, 5), st.sampled_from([1, 2, 3, 5]), st.integers(0, 2**32 - 1))
def test_the_numbers_are_those_of_the_definitions(reference, outputs, inputs, side, seed):
    slow = reference("slow_filter_health")
    weight = gaussian(outputs, inputs, side, side, seed=seed)
    weight[gaussian(outputs, inputs, seed=seed + 1) > 0.8] *= 1e-3
    found = judge("layer", weight)
    dead = slow.dead(weight)
    rows = slow.kernels(weight)
    assert found.kernels == len(rows) == outputs * inputs and found.kernel == (side, side)
    assert found.sparsity == pytest.approx(sum(dead) / len(dead))
    assert found.variance_entropy == pytest.approx(slow.variance_entropy(rows), abs=1e-9)
    assert found.orthogonality == pytest.approx(slow.orthogonality(weight), abs=1e-9)


@pytest.mark.parametrize(
    ("kernels", "published"), [(9, 0.55), (16, 0.72), (64, 0.906), (256, 0.943), (1024, 0.950), (10**9, 0.951)]
)
def test_the_threshold_has_its_published_values(kernels, published):
    assert random_threshold(kernels) == pytest.approx(published, abs=0.006)


@pytest.mark.parametrize("shape", [(8, 8), (64, 64), (64, 1)], ids=["64", "4096", "depthwise"])
def test_untrained_kernels_are_random_and_not_sparse(shape):
    found = judge("layer", gaussian(*shape, 3, 3))
    assert found.word == "random" and found.sparsity <= 0.1 and found.variance_entropy >= 0.9  # the authors' own test
    assert found.normalised == found.variance_entropy / random_threshold(math.prod(shape)) >= 1.0


def test_kernels_of_one_direction_are_redundant():
    found = judge("layer", dirac(8, 8))
    assert found.word == "redundant" and found.variance_entropy == pytest.approx(0.0, abs=1e-12)


def test_a_mixture_of_directions_is_healthy():
    patterns = gaussian(1, 9) * 3 + gaussian(64, 9, seed=1) * (0.3 + 0.7 * (np.arange(9) < 5))
    found = judge("layer", patterns.reshape(8, 8, 3, 3))
    assert found.word == "healthy" and 0.8 < found.normalised < 1.0


def test_dead_kernels_are_sparse_and_left_out_of_the_clean_entropy():
    weight = gaussian(8, 8, 3, 3)
    weight.reshape(64, 3, 3)[::2] *= 1e-4
    found = judge("layer", weight)
    assert found.sparsity == 0.5 == sparsity(weight) and found.word == "sparse"
    alive = weight.reshape(64, 9)[1::2]
    assert found.normalised_clean == pytest.approx(variance_entropy(alive) / random_threshold(32))
    assert found.normalised_clean != found.normalised


def test_a_layer_of_zeros_is_sparse_and_says_nothing_else():
    found = judge("layer", np.zeros((4, 4, 3, 3)))
    assert (found.sparsity, found.variance_entropy, found.normalised, found.word) == (1.0, 0.0, 0.0, "sparse")
    assert found.normalised_clean is None
    assert orthogonality(np.zeros((4, 4, 3, 3))) == pytest.approx(1 - 4 / 12)  # as the authors' code has it


def test_equal_kernels_have_no_entropy():
    weight = np.full((4, 4, 3, 3), 0.1)
    assert variance_entropy(weight.reshape(16, 9)) == 0.0
    assert judge("layer", weight).orthogonality == pytest.approx(0.0)


def test_singular_values_of_zero_add_nothing():
    rows = np.zeros((64, 9))
    rows[:, 0], rows[:, 1] = np.tile([1.0, -1.0], 32), np.repeat([1.0, -1.0], 32)
    assert variance_entropy(rows) == pytest.approx(math.log10(2))


@pytest.mark.parametrize("factor", [1e-150, 1e150], ids=["tiny", "huge"])
def test_the_scale_of_the_weights_does_not_matter(factor):
    plain, scaled = judge("layer", gaussian(6, 6, 3, 3)), judge("layer", gaussian(6, 6, 3, 3) * factor)
    assert scaled.variance_entropy == pytest.approx(plain.variance_entropy)
    assert scaled.orthogonality == pytest.approx(plain.orthogonality) and scaled.word == plain.word


def test_too_few_kernels_are_not_held_to_a_threshold():
    found = judge("layer", gaussian(2, 4, 3, 3))
    assert found.threshold is None and found.word is None
    assert found.normalised == pytest.approx(found.variance_entropy / math.log10(9))
    assert found.variance_entropy <= math.log10(7)  # eight centred points span seven directions
    assert judge("layer", gaussian(3, 3, 3, 3)).threshold == random_threshold(9)


def test_one_kernel_has_no_entropy_and_no_orthogonality():
    found = judge("layer", gaussian(1, 1, 3, 3))
    assert (found.variance_entropy, found.orthogonality, found.normalised_clean) == (0.0, None, None)


def test_other_sizes_can_be_sparse():
    weight = gaussian(16, 16, 5, 5)
    weight[:4] = 0.0
    assert judge("layer", weight).word == "sparse"


@pytest.mark.parametrize("side", [2, 5, 7])
def test_other_sizes_are_scaled_by_their_maximum_and_not_judged(side):
    found = judge("layer", gaussian(16, 16, side, side))
    assert found.threshold is None and found.word is None
    assert found.normalised == pytest.approx(found.variance_entropy / math.log10(side**2))
    assert 0.9 < found.normalised <= 1.0


def test_a_1x1_layer_has_sparsity_and_orthogonality_only():
    weight = gaussian(16, 16, 1, 1)
    weight[:8] = 1e-5
    found = judge("layer", weight)
    assert (found.variance_entropy, found.normalised, found.normalised_clean) == (0.0, None, None)
    assert found.sparsity >= 0.5 and found.orthogonality is not None and found.word is None


def test_a_kernel_that_is_not_square_is_no_3x3():
    assert judge("layer", gaussian(8, 8, 1, 9)).threshold is None


def test_float32_and_strided_arrays_are_taken():
    weight = gaussian(8, 8, 3, 3).astype(np.float32)
    assert judge("layer", weight.transpose(1, 0, 2, 3)).variance_entropy == pytest.approx(
        judge("layer", weight).variance_entropy
    )


def test_weights_that_are_not_finite_are_named():
    weight = gaussian(4, 4, 3, 3)
    weight[0, 0, 0, 0] = math.nan
    with pytest.raises(WeightsError, match=r"block\.conv: 1 of 144 weights are not finite; the training diverged"):
        judge("block.conv", weight)


def test_trained_networks_are_mostly_healthy(shared):
    import torch

    path = shared / "data/weights/sr/span/spanx4_ch48_deploy_fp16rounded.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("params_ema", state.get("params", state))
    found = [judge(k, v.numpy()) for k, v in state.items() if v.dim() == 4 and v.shape[2:] == (3, 3)]
    words = [f.word for f in found]
    assert len(words) == 21 and words.count("healthy") >= 14 and "random" not in words
