"""The bricks, the network and the arithmetic that chapter 08 writes."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.notebook import load

chapter = load("08_efficientnet_b4")

COUNTS = {
    "B0": (16, 5_330_571),
    "B1": (23, 7_856_239),
    "B2": (23, 9_177_569),
    "B3": (26, 12_320_535),
    "B4": (32, 19_466_823),
    "B5": (39, 30_562_527),
    "B6": (45, 43_265_143),
    "B7": (55, 66_658_687),
}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# --- The bricks


def test_swish_and_its_slope(rng):
    x = rng.normal(scale=3, size=200)
    expected = ops.convert_to_numpy(keras.activations.silu(x.astype("float32")))
    np.testing.assert_allclose(chapter.swish(x), expected, atol=1e-5)
    step = 1e-5
    slope = (chapter.swish(x + step) - chapter.swish(x - step)) / (2 * step)
    np.testing.assert_allclose(chapter.swish_slope(x), slope, atol=1e-6)


def test_multiply_adds_counted_by_hand():
    inputs = keras.Input((9, 9, 2))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(inputs)  # (5, 5, 4)
    x = layers.DepthwiseConv2D(5, padding="same")(x)
    inner = keras.Model(inputs, layers.Flatten()(x))
    outer = keras.Model(inputs, layers.Dense(10)(inner(inputs)))
    assert chapter.multiply_adds(inner) == 25 * (9 * 2 * 4) + 25 * (25 * 4)
    assert chapter.multiply_adds(outer) == chapter.multiply_adds(inner) + 100 * 10


@pytest.mark.parametrize(("channels", "filters", "kernel"), [(16, 32, 3), (8, 4, 5)])
def test_separable_convolution_saves_what_the_formula_says(channels, filters, kernel):
    parameters, cost = chapter.pair_tally(channels, filters, kernel)
    law = 1 / filters + 1 / kernel**2
    assert parameters[1] / parameters[0] == pytest.approx(law)
    assert cost[1] / cost[0] == pytest.approx(law)


def test_squeeze_excite_is_its_numpy_twin(rng):
    model = chapter.alone(chapter.squeeze_excite, 12, side=5, reduced=3)
    model.set_weights(
        [rng.normal(scale=0.5, size=w.shape) for w in model.get_weights()]
    )
    x = rng.normal(1, 2, size=(4, 5, 5, 12)).astype("float32")
    scale = chapter.excitation(x, model.get_weights())
    assert scale.shape == (4, 12)
    assert 0 < scale.min() < scale.max() < 1
    expected = x * scale[:, None, None]
    assert chapter.relative_gap(expected, model(x)) < 1e-3


def test_layers_of_one_shape_are_born_different():
    def kernels(seed):
        keras.utils.set_random_seed(seed)
        born = [chapter.conv(4, 3, name=name) for name in "ab"]
        born.append(layers.DepthwiseConv2D(3, depthwise_initializer=chapter.KERNEL))
        for layer in born:
            layer.build((None, 8, 8, 5))
        return [ops.convert_to_numpy(layer.kernel) for layer in born]

    first, again, other = kernels(0), kernels(0), kernels(1)
    assert not np.allclose(first[0], first[1])
    for one, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert not np.allclose(one, different)
    wide = chapter.conv(64, 3, name="wide")
    wide.build((None, 8, 8, 32))
    deviation = ops.convert_to_numpy(wide.kernel).std()  # fan out
    assert deviation == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)


def layer_kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def test_mbconv_adds_its_input_only_where_the_sizes_agree():
    options = {"filters": 16, "drop": 0.2}
    same = chapter.alone(chapter.mbconv, 16, side=6, **options)
    assert {"Add", "Dropout"} <= set(layer_kinds(same))
    for changed in ({"filters": 24}, {"filters": 16, "strides": 2}):
        other = chapter.alone(chapter.mbconv, 16, side=6, drop=0.2, **changed)
        assert not {"Add", "Dropout"} & set(layer_kinds(other))
    assert other.output_shape == (None, 3, 3, 16)


def test_mbconv_squeezes_to_a_quarter_of_its_input_channels():
    model = chapter.alone(chapter.mbconv, 16, side=6, filters=24)
    assert model.get_layer("se_reduce").filters == 4
    assert model.get_layer("dwconv").output.shape[-1] == 96


def test_stochastic_depth_drops_whole_images():
    model = chapter.alone(chapter.mbconv, 8, side=4, filters=8, drop=0.5)
    x = np.random.default_rng(0).normal(size=(64, 4, 4, 8)).astype("float32")
    branch = ops.convert_to_numpy(model(x, training=True)) - x
    lost = np.abs(branch).reshape(64, -1).max(axis=1) == 0
    assert 10 < lost.sum() < 54
    still = ops.convert_to_numpy(model(x, training=False)) - x
    assert np.abs(still).reshape(64, -1).max(axis=1).min() > 0


@pytest.fixture(scope="module")
def reference():
    """Keras' own B0, small, seeing its images."""
    network = chapter.reference_network(32)
    chapter.calibrated(network, chapter.proof_images(32))
    return network


def test_blocks_are_those_of_keras(reference):
    before = "block1a_project_bn"
    strided = chapter.block_gap(reference, before, "block2a_", filters=24, strides=2)
    assert strided < 1e-3
    before = "block2a_project_bn"
    assert chapter.block_gap(reference, before, "block2b_", filters=24) < 1e-3
    wrong = chapter.block_gap(
        reference, before, "block2b_", filters=24, activation="gelu"
    )
    assert wrong > 1e-2


# --- The network


@pytest.mark.parametrize(
    ("filters", "width", "expected"),
    [
        (32, 1.4, 48),
        (16, 1.4, 24),
        (24, 1.1, 24),
        (320, 1.4, 448),
        (3, 1.0, 8),
        (20, 1.0, 24),
    ],
)
def test_filters_are_rounded_to_multiples_of_eight(filters, width, expected):
    assert chapter.round_filters(filters, width) == expected


def test_blocks_are_rounded_upwards():
    found = [chapter.round_blocks(stage.blocks, 1.8) for stage in chapter.STAGES]
    assert found == [2, 4, 4, 6, 6, 8, 2]


def test_random_statistics_alone_would_prove_nothing():
    """Why the chapter settles the normalisations first: random ones erase the image."""
    network = chapter.reference_network(32)
    images = chapter.proof_images(32)
    assert chapter.image_gap(network, images) < 1e-3
    chapter.calibrated(network, images)
    assert chapter.image_gap(network, images) > 1e-2


def test_b0_is_the_network_of_keras(reference):
    ours = chapter.efficientnet("B0", side=32, activation=None)
    same, wrong = chapter.proof(reference, ours, chapter.proof_images(32))
    assert same < 1e-3
    assert wrong > 1e-2


def test_the_colour_statistics_are_read_once_finalised(reference):
    """Copied without `finalised`, they would stay unread (PyTorch shares their memory)."""
    images = chapter.proof_images(32)
    model = chapter.efficientnet("B0", side=32, activation=None)
    chapter.copied(reference, model)
    expected = reference(images, training=False)
    unread = chapter.relative_gap(expected, model(images, training=False))
    assert unread > 1e-2 or keras.config.backend() == "torch"
    chapter.finalised(model)
    assert chapter.relative_gap(expected, model(images, training=False)) < 1e-3


def test_stage_table_of_b0():
    model = chapter.efficientnet("B0", side=64)
    table = chapter.stage_table(model)
    assert [table[str(k)][0] for k in range(1, 8)] == [1, 2, 2, 3, 3, 4, 1]
    assert sum(parameters for *_, parameters in table.values()) == model.count_params()
    assert tuple(table["sommet"][1]) == (2, 2, 1280)
    costs = chapter.by_kind(model)
    assert sum(cost for _, cost in costs.values()) == chapter.multiply_adds(model)
    assert chapter.block_widths(model, "block2a") == [16, 96, 24]


def test_lite0_has_neither_excitation_nor_swish():
    model = chapter.lite0(64)
    assert model.count_params() == 3_413_024
    assert model.output_shape == (None, 2, 2, 1280)
    assert "Multiply" not in layer_kinds(model)


# --- The scaling


@pytest.mark.parametrize("variant", COUNTS)
def test_arithmetic_gives_the_published_counts(variant):
    assert chapter.tally(*chapter.SCALES[variant][:3])[:2] == COUNTS[variant]


def test_arithmetic_agrees_with_a_built_network():
    inputs = keras.Input((70, 70, 3))
    body = keras.Model(inputs, chapter.features(inputs, 1.1, 1.2))
    pooled = layers.GlobalAveragePooling2D()(body.output)
    model = keras.Model(inputs, layers.Dense(10)(pooled))
    blocks, parameters, cost = chapter.tally(1.1, 1.2, 70, classes=10)
    assert parameters == model.count_params() + 7  # the colours
    assert cost == chapter.multiply_adds(model)
    assert blocks == layer_kinds(body).count("DepthwiseConv2D")


def test_exponents_of_exact_powers():
    scale = chapter.Scale(1.1**2, 1.2**2, 224 * 1.15**2, 0.2)
    np.testing.assert_allclose(chapter.exponents(scale), 2)
    assert chapter.disagreement((1.2, 1.1, 1.15)) < chapter.disagreement(
        (1.15, 1.1, 1.2)
    )


@pytest.mark.parametrize("plan", [(3, 10, 10), (2, 9, 13)])
def test_the_cost_model_is_that_of_the_small_networks(plan):
    assert chapter.small_cost(*plan) == chapter.multiply_adds(
        chapter.small_network(*plan)
    )


def test_networks_compared_have_equal_cost():
    for name, plan in chapter.SCALED.items():
        wanted = 1 if name == "base" else 4
        assert chapter.relative_cost(*plan) == pytest.approx(wanted, rel=0.1)
    for plan in chapter.SEARCHED:
        assert chapter.relative_cost(*plan) == pytest.approx(2, rel=0.1)
    assert 3 <= len(chapter.SEARCHED) <= 6
    assert any(np.all(np.greater(plan, chapter.BASE)) for plan in chapter.SEARCHED)


def test_the_search_never_sees_the_test(monkeypatch):
    x, y = np.arange(200).repeat(784).reshape(200, 28, 28), np.arange(200)
    parts = {
        "x_train": x[:150],
        "y_train": y[:150],
        "x_test": x[150:],
        "y_test": y[150:],
    }
    monkeypatch.setattr(chapter, "garments", SimpleNamespace(**parts), raising=False)
    images, labels = chapter.held_out()
    size = chapter.SMALL_TESTED
    assert images[:, 0, 0].tolist() == labels.tolist() == list(range(150 - size, 150))
    assert chapter.test_garments()[0].min() == 150
    assert size + chapter.SMALL_IMAGES < 150


def test_shrunk_garments_keep_their_mean(rng):
    images = rng.integers(256, size=(3, 28, 28)).astype("uint8")
    small = chapter.shrunk(images, 14)
    assert small.shape == (3, 14, 14, 1)
    assert 0 <= small.min() < small.max() <= 1
    assert small.mean() == pytest.approx(images.mean() / 255, abs=0.02)
