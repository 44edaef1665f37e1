"""The functions of chapter 08: relatives, memory, quantisation."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.notebook import load

chapter = load("08_efficientnet_b4")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# --- The relatives


def test_a_grouped_block_is_a_sum_of_paths(rng):
    kernels = [
        rng.normal(size=shape).astype("float32")
        for shape in ((1, 1, 6, 8), (3, 3, 2, 8), (1, 1, 8, 6))
    ]
    x = rng.normal(size=(1, 5, 5, 6)).astype("float32")
    whole = ops.convert_to_numpy(chapter.all_at_once(x, *kernels))
    paths = ops.convert_to_numpy(chapter.path_by_path(x, *kernels, paths=4))
    np.testing.assert_allclose(whole, paths, rtol=1e-4, atol=1e-3)
    wrong = ops.convert_to_numpy(
        chapter.path_by_path(x, *kernels[:2], kernels[2][:, :, ::-1], 4)
    )
    assert np.abs(wrong - whole).max() > 0.1


def test_grouped_block_changes_shape_and_keeps_its_shortcut():
    inputs = keras.Input((8, 8, 16))
    same = keras.Model(inputs, chapter.grouped_block(inputs, 8, 16, 4))
    halved = keras.Model(inputs, chapter.grouped_block(inputs, 8, 32, 4, 2))
    assert same.output_shape == (None, 8, 8, 16)
    assert halved.output_shape == (None, 4, 4, 32)
    assert len(chapter.convolutions(halved)) == len(chapter.convolutions(same)) + 1
    assert same.get_layer("groupconv").groups == 4


@pytest.mark.parametrize(
    ("arguments", "size"),
    [({}, 25_028_904), ({"groups": 1, "middle": 64}, 25_557_032)],
    ids=["resnext", "resnet"],
)
def test_resnext_and_resnet_have_the_size_of_torchvision(arguments, size):
    assert chapter.trainable(chapter.resnext50(side=32, **arguments)) == size


@pytest.mark.parametrize("name", ["RegNetX-200MF", "RegNetX-800MF", "RegNetX-1.6GF"])
def test_the_rule_gives_the_printed_stages(name):
    widths, blocks = chapter.rule_stages(chapter.RULES[name])
    assert (widths, blocks) == chapter.PRINTED[name]
    assert sum(blocks) == chapter.RULES[name].depth
    line, steps = chapter.rule_widths(chapter.RULES[name])
    assert line[0] == chapter.RULES[name].start
    assert steps == sorted(steps)


def test_regnet_has_the_size_of_torchvision():
    model = chapter.regnet(chapter.RULES["RegNetX-800MF"], side=32)
    assert chapter.trainable(model) == 7_259_656


def test_tiles_are_read_row_by_row(rng):
    images = rng.random((2, 8, 12, 3)).astype("float32")
    cut = chapter.tiles(images, 4)
    assert cut.shape == (2, 6, 48)
    np.testing.assert_array_equal(cut[1, 4], images[1, 4:8, 4:8].ravel())


def test_vit_small_has_its_published_size():
    assert chapter.trainable(chapter.vit_small()) == 22_050_664


def test_vit_base_by_arithmetic():
    """One block of width 32, and what does not repeat, scaled by the formula of the sizes."""
    small = chapter.vit(32, 2, 4, patch=4, side=8, classes=5)
    block = 12 * 32**2 + 13 * 32
    ends = (4 * 4 * 3 + 1) * 32 + 32 + 5 * 32 + 2 * 32 + 33 * 5
    assert chapter.trainable(small) == 2 * block + ends
    block = 12 * 768**2 + 13 * 768
    ends = (16 * 16 * 3 + 1) * 768 + 768 + 197 * 768 + 2 * 768 + 769 * 1000
    assert 12 * block + ends == 86_567_656


def test_tokens_put_the_class_first_and_survive_saving(tmp_path, rng):
    inputs = keras.Input((4, 6))
    model = keras.Model(inputs, chapter.Tokens()(inputs))
    layer = model.layers[-1]
    layer.first.assign(rng.normal(size=(1, 1, 6)))
    x = rng.normal(size=(2, 4, 6)).astype("float32")
    y = ops.convert_to_numpy(model(x))
    position = ops.convert_to_numpy(layer.position)
    assert y.shape == (2, 5, 6)
    np.testing.assert_allclose(y[:, 1:], x + position[:, 1:], rtol=1e-5)
    np.testing.assert_allclose(
        y[1, 0], ops.convert_to_numpy(layer.first)[0, 0] + position[0, 0], rtol=1e-5
    )
    model.save(tmp_path / "tokens.keras")
    again = keras.saving.load_model(tmp_path / "tokens.keras")
    np.testing.assert_allclose(ops.convert_to_numpy(again(x)), y, rtol=1e-6)


def test_without_positions_the_order_of_tiles_is_lost(rng):
    images = rng.uniform(0, 255, (1, 8, 8, 1)).astype("float32")
    model = chapter.vit(8, 1, 2, patch=2, side=8, channels=1, classes=3)
    chapter.randomised(model)
    position = model.get_layer("tokens").position
    mixed = chapter.scrambled(images, 2)
    assert np.abs(ops.convert_to_numpy(model(mixed) - model(images))).max() > 1e-3
    position.assign(np.zeros(position.shape))
    gap = np.abs(ops.convert_to_numpy(model(mixed) - model(images))).max()
    assert gap < 1e-4


def test_scrambling_moves_tiles_and_nothing_else(rng):
    images = rng.integers(256, size=(3, 8, 8, 1))
    mixed = chapter.scrambled(images)
    assert mixed.shape == images.shape
    assert not np.array_equal(mixed, images)
    before, after = (
        sorted(map(bytes, chapter.tiles(x, 4)[0].astype("uint8")))
        for x in (images, mixed)
    )
    assert before == after
    np.testing.assert_array_equal(chapter.scrambled(images[1:]), mixed[1:])


def test_attention_products_are_added_to_the_cost():
    model = chapter.vit(8, 3, 2, patch=4, side=8, classes=5)
    assert chapter.attention_products(model) == 3 * 2 * 5**2 * 8
    by_token = 5 * 3 * 12 * 8**2
    assert chapter.cost(model) == by_token + 4 * 48 * 8 + 8 * 5 + 3 * 2 * 5**2 * 8
    assert chapter.attention_products(chapter.tiny_mbconv()) == 0


def test_the_contenders_are_of_the_same_size():
    sizes = [chapter.trainable(build()) for build in chapter.CONTENDERS.values()]
    assert max(sizes) / min(sizes) < 1.06


# --- Memory and time


def test_memory_is_counted_on_the_graph():
    inputs = keras.Input((4, 4, 1))
    a = layers.Conv2D(2, 3, padding="same")(inputs)
    b = layers.Conv2D(8, 3, padding="same")(a)
    c = layers.Conv2D(2, 1)(b)
    model = keras.Model(inputs, layers.Add()([a, c]))
    assert chapter.kept(model) == 64 * (1 + 2 + 8 + 2 + 2)
    assert chapter.alive(model) == 64 * (2 + 8 + 2)  # a waits for the sum
    found = chapter.footprint(model)
    parameters = 4 * model.count_params()
    assert found["training"] == (4 * parameters, chapter.kept(model))
    assert found["inference"] == (parameters, chapter.alive(model))
    assert chapter.total_bytes(found, "training", 3) == 4 * parameters + 3 * 64 * 15


def test_exponent_is_the_slope_of_b4_alone():
    rows = [
        {"name": "EfficientNet-B4", "side": s, "ms": 3 * s**2} for s in (10, 20, 40)
    ]
    rows.append({"name": "ResNet-50", "side": 10, "ms": 1e6})
    assert chapter.exponent(rows, "ms") == pytest.approx(2)


def test_a_chain_counts_its_layers():
    inside = chapter.chain(chapter.LAYER_KINDS["1 × 1"], count=2, side=4)
    assert inside.output_shape == (None, 4, 4, 96)
    assert chapter.multiply_adds(inside) == 2 * 16 * 96**2


# --- Quantisation


def test_quantised_kernels_are_close_and_use_all_their_range(rng):
    kernel = rng.normal(size=(3, 3, 4, 5)) * np.array([0.01, 0.1, 1, 10, 100])
    one, scale = chapter.quantised(kernel)
    assert scale.size == 1
    assert np.abs(one).max() == 127
    each, scales = chapter.quantised(kernel, -1)
    assert scales.shape == (1, 1, 1, 5)
    np.testing.assert_array_equal(np.abs(each).max(axis=(0, 1, 2)), 127)
    assert (np.abs(each * scales - kernel) <= scales / 2 * 1.001).all()
    assert np.abs(each * scales - kernel).max(axis=(0, 1, 2))[0] < 0.001
    few, _ = chapter.quantised(kernel, -1, bits=4)
    assert np.abs(few).max() == 7
    assert chapter.quantised(np.zeros((1, 1, 2, 2)))[0].any() is np.False_


@pytest.mark.parametrize("se", [0, 0.25])
def test_folding_changes_nothing(se, rng):
    model = chapter.alone(chapter.mbconv, 4, side=8, filters=4, expansion=2, se=se)
    chapter.randomised(model)
    x = rng.normal(size=(2, 8, 8, 4)).astype("float32")
    before = ops.convert_to_numpy(model(x))
    pairs = chapter.convolutions_and_norms(model)
    assert len(pairs) == 3
    chapter.fold(model)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(x)), before, rtol=1e-3, atol=1e-4
    )
    assert all(np.allclose(norm.gamma, 1) for _, norm in pairs)


def test_quantise_writes_each_layer_on_its_own_axis(rng):
    model = chapter.alone(chapter.mbconv, 4, side=8, filters=4, expansion=2)
    chapter.randomised(model)
    found = chapter.kernels_of(model)
    exact = [ops.convert_to_numpy(layer.kernel) for layer in found]
    chapter.quantise(model, exact, 8, per_channel=True)
    depthwise = next(x for x in found if isinstance(x, layers.DepthwiseConv2D))
    k = found.index(depthwise)
    step = np.abs(exact[k]).max(axis=(0, 1, 3), keepdims=True) / 127
    gap = np.abs(ops.convert_to_numpy(depthwise.kernel) - exact[k])
    assert (gap <= step / 2 * 1.001).all()
    chapter.quantise(model, exact, 3, per_channel=False)
    assert len(np.unique(ops.convert_to_numpy(found[0].kernel))) <= 7


def test_stored_bytes_count_integers_scales_and_offsets():
    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, layers.Conv2D(3, 1)(inputs))
    assert chapter.stored_bytes(model, 32, False) == 4 * 6 + 4 * 3
    assert chapter.stored_bytes(model, 8, False) == 6 + 4 * (1 + 3)
    assert chapter.stored_bytes(model, 8, True) == 6 + 4 * (3 + 3)


# --- The exercise


def test_exercise_on_folding(rng):
    exercise = chapter.EXERCISE_FOLDED
    assert exercise.diagnose(chapter.folded_solution)
    assert not exercise.diagnose(chapter.my_folded)
    for hint, wrong in exercise.mistakes.items():
        assert exercise.diagnose(wrong).message == hint


def test_a_folded_convolution_is_both_layers(rng):
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(
        inputs, layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs))
    )
    chapter.randomised(model)
    convolution, norm = model.layers[1:]
    weights = [
        *convolution.get_weights(),
        *norm.get_weights(),
    ]  # gamma, beta, mean, variance
    x = rng.normal(size=(2, 6, 6, 3)).astype("float32")
    expected = ops.convert_to_numpy(model(x))
    convolution.set_weights(chapter.folded_solution(*weights, norm.epsilon))
    found = ops.convert_to_numpy(keras.Model(inputs, convolution.output)(x))
    np.testing.assert_allclose(found, expected, atol=1e-4)
