"""The functions that chapter 03 writes."""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.notebook import load
from utils import provenance

chapter = load("03_architectures")
rng = np.random.default_rng(0)


def to_numpy(x):
    return ops.convert_to_numpy(x)


# --- counting ----------------------------------------------------------------------------------


def one_layer(layer, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (layers.Conv2D(5, 3), (8, 9, 2), 6 * 7 * 9 * 2 * 5),
        (
            layers.Conv2D(5, 3, strides=2, padding="same"),
            (8, 9, 2),
            4 * 5 * 9 * 2 * 5,
        ),
        (layers.Conv2D(4, (3, 1), groups=2), (8, 8, 6), 6 * 8 * 3 * 3 * 4),
        (layers.Conv2D(4, 3, dilation_rate=2), (9, 9, 1), 5 * 5 * 9 * 4),
        (layers.DepthwiseConv2D(3, padding="same"), (8, 8, 6), 64 * 9 * 6),
        (layers.SeparableConv2D(5, 3), (8, 8, 6), 36 * (9 * 6 + 6 * 5)),
        (layers.Conv2DTranspose(5, 2, strides=2), (4, 4, 3), 16 * 4 * 3 * 5),
        (layers.Conv1D(5, 3), (10, 2), 8 * 3 * 2 * 5),
        (layers.Dense(7), (11,), 77),
        (layers.Dense(7), (5, 11), 5 * 77),
        (layers.BatchNormalization(), (8, 8, 6), 0),
        (layers.MaxPooling2D(2), (8, 8, 6), 0),
    ],
)
def test_multiply_adds_of_a_layer(layer, shape, expected):
    assert chapter.multiply_adds(one_layer(layer, shape)) == expected


def test_multiply_adds_of_a_nested_model_and_of_a_layer():
    inner = one_layer(layers.Conv2D(4, 3), (8, 8, 2))
    inputs = keras.Input((8, 8, 2))
    outer = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(inner(inputs))))
    alone = chapter.multiply_adds(inner)
    assert chapter.multiply_adds(outer) == alone + 6 * 6 * 4 * 3
    assert chapter.multiply_adds(inner.layers[1]) == alone


def test_depth_takes_the_longest_path():
    inputs = keras.Input((8, 8, 4))
    long = layers.Conv2D(4, 3, padding="same")(layers.Conv2D(4, 1)(inputs))
    x = layers.Add()([layers.Conv2D(4, 1)(inputs), long])
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    assert chapter.layer_depth(model) == 3
    assert chapter.units(model) == 3 * 256 + 2


def test_stages_add_up():
    model = chapter.resnet(18, input_shape=(64, 64, 3), classes=10)
    rows = chapter.stages(model)
    names = ["32 × 32", "16 × 16", "8 × 8", "4 × 4", "2 × 2", "dense"]
    assert [row[0] for row in rows] == names
    assert [row[1] for row in rows] == [64, 64, 128, 256, 512, 10]
    assert sum(row[3] for row in rows) == model.count_params()
    assert sum(row[4] for row in rows) == chapter.multiply_adds(model)
    assert sum(row[2] for row in rows) == 21  # 18, and three projections


def test_dense_shares():
    inputs = keras.Input((4, 4, 1))
    x = layers.Conv2D(2, 3, padding="same", use_bias=False)(inputs)
    x = layers.Dense(3, use_bias=False)(layers.Flatten()(x))
    parameters, operations = chapter.dense_shares(keras.Model(inputs, x))
    assert parameters == pytest.approx(96 / (96 + 18))
    assert operations == pytest.approx(96 / (96 + 16 * 18))


# --- the architectures -------------------------------------------------------------------------

PUBLISHED = {  # name: (build, parameters with moving statistics, billions of operations, depth)
    "lenet5": (chapter.lenet5, 61_706, None, 5),
    "alexnet": (chapter.alexnet, 60_965_224, 0.72, 8),
    "vgg16": (lambda: chapter.vgg(16), 138_357_544, 15.5, 16),
    "vgg19": (lambda: chapter.vgg(19), 143_667_240, 19.6, 19),
    "googlenet": (chapter.googlenet, 6_998_552, 1.58, 22),
    "googlenet_aux": (lambda: chapter.googlenet(True), 13_378_280, 1.59, 22),
    "inception_v2": (chapter.inception_v2, 11_315_272, 2.03, 34),
    "resnet18": (lambda: chapter.resnet(18), 11_689_512 + 3 * 4_800, 1.81, 18),
    "resnet34": (lambda: chapter.resnet(34), 21_797_672 + 3 * 8_512, 3.66, 34),
    "resnet50": (lambda: chapter.resnet(50), 25_636_712, 3.86, 50),
    "resnet101": (lambda: chapter.resnet(101), 44_707_176, 7.57, 101),
    "resnet152": (lambda: chapter.resnet(152), 60_419_944, 11.28, 152),
    "densenet121": (lambda: chapter.densenet(121), 8_062_504, 2.83, 121),
    "densenet169": (lambda: chapter.densenet(169), 14_307_880, 3.36, 169),
    "densenet201": (lambda: chapter.densenet(201), 20_242_984, 4.29, 201),
}


BUILT = (
    "lenet5",
    "alexnet",
    "googlenet_aux",
    "inception_v2",
    "resnet50",
    "densenet121",
)
CENSUS = {  # the others: built, measured and stored by the experiment `census`
    "vgg16": "VGG-16",
    "vgg19": "VGG-19",
    "googlenet": "GoogLeNet",
    **{f"resnet{d}": f"ResNet-{d}" for d in (18, 34, 101, 152)},
    **{f"densenet{d}": f"DenseNet-{d}" for d in (169, 201)},
}


@pytest.mark.parametrize("name", BUILT)
def test_architecture_has_the_published_size(name):
    build, parameters, billions, depth = PUBLISHED[name]
    model = build()
    assert model.count_params() == parameters
    assert chapter.layer_depth(model) == depth
    if billions:
        assert chapter.multiply_adds(model) / 1e9 == pytest.approx(billions, abs=0.04)
    if name == "alexnet":
        assert chapter.units(model) == 659_272
    heads = model.output_shape if name == "googlenet_aux" else [model.output_shape]
    assert {shape[-1] for shape in heads} == {10 if name == "lenet5" else 1000}


def test_architectures_measured_by_the_census_have_the_published_size():
    assert set(BUILT) | set(CENSUS) == set(PUBLISHED)
    stored = provenance.load_results("03_architectures")["experiments"]["census"]
    for name, title in CENSUS.items():
        _, parameters, billions, depth = PUBLISHED[name]
        found = stored["values"][title]
        assert (found["parameters"], found["depth"]) == (parameters, depth), name
        assert found["multiply_adds"] / 1e9 == pytest.approx(billions, abs=0.04), name


def test_vgg_arithmetic():
    assert chapter.vgg_parameters(16) == 138_357_544
    assert chapter.vgg_parameters(19) == 143_667_240


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("VGG16", lambda **options: chapter.vgg(16, **options)),
        ("ResNet50", lambda **options: chapter.resnet(50, **options)),
        ("DenseNet121", lambda **options: chapter.densenet(121, **options)),
    ],
)
def test_architecture_computes_the_reference_function(theirs, ours):
    options = {"input_shape": (32, 32, 3), "classes": 10}
    reference = getattr(keras.applications, theirs)(
        weights=None, classifier_activation=None, **options
    )
    chapter.randomise(reference)
    model = ours(**options)
    chapter.transplant(reference, model)
    assert chapter.relative_error(reference, model) < 1e-5
    chapter.plant_gelu(model)
    assert chapter.relative_error(reference, model) > 1e-5


@pytest.mark.parametrize(
    "build",
    [
        lambda: chapter.alexnet((67, 67, 3), classes=5),
        lambda: chapter.googlenet(False, (64, 64, 3), classes=5),
        chapter.lenet5_1998,
        lambda: chapter.densenet(121, (32, 32, 3), classes=5),
        lambda: chapter.stacked(10, shortcut=True),
        lambda: chapter.skeleton(chapter.mbconv),
    ],
)
def test_network_reloads_to_equal_outputs(build, tmp_path):
    model = build()
    image = rng.normal(size=(2, *model.input_shape[1:])).astype("float32")
    expected = to_numpy(model(image, training=False))
    assert np.isfinite(expected).all()
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(to_numpy(reloaded(image)), expected, atol=1e-5)


def test_lenet5_of_1998_is_that_of_the_paper():
    model = chapter.lenet5_1998()
    shapes = [math.prod(weight.shape) for weight in model.trainable_weights]
    assert sum(shapes) == 60_000
    assert sum(math.prod(w.shape) for w in model.non_trainable_weights) == 840
    assert sorted(map(len, chapter.C3)) == [3] * 6 + [4] * 9 + [6]
    one = to_numpy(chapter.squash(ops.ones(1)))
    assert one == pytest.approx(1, abs=1e-4)
    pooled = chapter.Subsampling()(np.ones((1, 4, 4, 2), "float32"))
    assert pooled.shape == (1, 2, 2, 2)
    np.testing.assert_allclose(to_numpy(pooled), 1, atol=1e-4)


def test_table_convolution_reads_its_table_only():
    layer = chapter.TableConvolution()
    x = rng.normal(size=(1, 6, 7, 6)).astype("float32")
    found = to_numpy(layer(x))
    kernel, bias = to_numpy(layer.kernel), to_numpy(layer.bias)
    assert kernel.size + bias.size == 1_516
    links = [(source, k) for k, read in enumerate(chapter.C3) for source in read]
    total = np.zeros((2, 3, 16))
    for link, (source, k) in enumerate(links):
        for i, j in np.ndindex(2, 3):
            window = x[0, i : i + 5, j : j + 5, source]
            total[i, j, k] += (window * kernel[..., link]).sum()
    expected = 1.7159 * np.tanh(2 / 3 * (total + bias))
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_squared_distances_is_a_loop():
    layer = chapter.SquaredDistances(classes=3)
    x = rng.normal(size=(4, 6)).astype("float32")
    found = to_numpy(layer(x))
    codes = to_numpy(layer.codes)
    assert set(np.unique(codes)) == {-1, 1}
    expected = [[((row - code) ** 2).sum() for code in codes] for row in x]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_local_response_normalisation_is_a_loop():
    x = 10 * rng.normal(size=(2, 3, 3, 7)).astype("float32")
    layer = chapter.LocalResponseNormalization(size=3, bias=1.5, alpha=0.1, beta=0.6)
    expected = np.empty_like(x)
    for c in range(7):
        near = x[..., max(0, c - 1) : c + 2]
        expected[..., c] = x[..., c] / (1.5 + 0.1 * (near**2).sum(axis=-1)) ** 0.6
    np.testing.assert_allclose(to_numpy(layer(x)), expected, rtol=1e-5)


def test_direct_sources_of_a_dense_block():
    def four(x):
        for _ in range(4):
            x = chapter.dense_layer(x, growth=2)
        return x

    sources = chapter.direct_sources(chapter.block(four, channels=3, side=4))
    reads = [len(read) for layer, read in sources.items() if layer.filters == 8]
    assert reads == [1, 2, 3, 4]
    assert [len(r) for layer, r in sources.items() if layer.filters == 2] == [1] * 4


# --- small networks ----------------------------------------------------------------------------


def test_halve_keeps_one_point_in_four_and_pads_channels():
    x = rng.normal(size=(1, 4, 6, 3)).astype("float32")
    small = to_numpy(chapter.halve(ops.convert_to_tensor(x), 5))
    np.testing.assert_array_equal(small[..., :3], x[:, ::2, ::2])
    assert small.shape == (1, 2, 3, 5)
    assert not small[..., 3:].any()


@pytest.mark.parametrize("depth", [10, 18, 34])
def test_stacks_differ_by_the_addition_only(depth):
    found = []
    for shortcut in (False, True):
        keras.utils.set_random_seed(0)
        model = chapter.stacked(depth, shortcut)
        found.append(model)
    assert {chapter.layer_depth(model) for model in found} == {depth}
    for plain, residual in zip(*(model.weights for model in found), strict=True):
        np.testing.assert_array_equal(to_numpy(plain), to_numpy(residual))
    assert chapter.multiply_adds(found[0]) == chapter.multiply_adds(found[1])


@pytest.mark.parametrize("name", chapter.BRICKS)
def test_brick_keeps_size_and_channels(name):
    inputs = keras.Input((6, 6, 8))
    assert chapter.BRICKS[name](inputs, 8).shape == (None, 6, 6, 8)
    assert chapter.skeleton(chapter.BRICKS[name]).output_shape == (None, 10)


def test_squeeze_excite_scales_each_map():
    x = np.abs(rng.normal(size=(2, 5, 5, 8))).astype("float32")
    inputs = keras.Input((5, 5, 8))
    model = keras.Model(inputs, chapter.squeeze_excite(inputs))
    ratio = to_numpy(model(x)) / x
    assert np.ptp(ratio, axis=(1, 2)).max() < 1e-5
    assert 0 < ratio.min() < ratio.max() < 1


def test_scaled_networks_cost_what_the_law_says():
    pairs, filters, side = chapter.SCALES["base"]
    base = chapter.multiply_adds(chapter.scaled(pairs, filters, side))
    for name, (p, f, s) in chapter.SCALES.items():
        law = (p / pairs) * (f / filters) ** 2 * (s / side) ** 2
        found = chapter.multiply_adds(chapter.scaled(p, f, s)) / base
        assert found == pytest.approx(law, rel=0.2), name


@pytest.fixture
def few_images(monkeypatch):
    x, y = rng.random(size=(30, 28, 28, 1), dtype="float32"), rng.integers(10, size=30)
    for name, value in {"x_train": x, "y_train": y, "x_val": x, "y_val": y}.items():
        monkeypatch.setattr(chapter, name, value, raising=False)
    return x, y


def test_compare_gives_a_row_a_seed(few_images, monkeypatch):
    monkeypatch.setattr(chapter, "SEEDS", (0, 1))
    runs = chapter.compare({"chain": lambda: chapter.chain(True, length=6, filters=4)})
    assert np.shape(runs["chain"]["training"]) == (2, chapter.EPOCHS)
    assert np.shape(runs["chain"]["validation"]) == (2,)
    assert runs["chain"]["validation"] == runs["chain"]["fitted"]


def test_accuracy_reads_the_first_output(few_images):
    x, y = few_images

    class Fixed:
        def __call__(self, images, training):
            right = np.eye(10)[y[: len(images)]]
            return [right, -right]

    assert chapter.accuracy(Fixed(), x, y) == 1


def test_severed_network_is_restored(few_images):
    model = chapter.dense_block()
    kernel = model.get_layer("link5").kernel
    before = [to_numpy(weight).copy() for weight in model.weights]
    seen = []
    probe = chapter.accuracy
    try:
        chapter.accuracy = lambda *_: seen.append(to_numpy(kernel).copy()) or 0.5
        assert chapter.severed_accuracy(model, 2) == 0.5
    finally:
        chapter.accuracy = probe
    assert not seen[0][:, :, 24:36].any()
    assert seen[0][:, :, :24].all()
    for weight, kept in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), kept)


def test_kernel_gradients_are_difference_quotients():
    inputs = keras.Input((4, 4, 1))
    x = layers.Conv2D(2, 3)(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    images, labels = (
        rng.normal(size=(5, 4, 4, 1)).astype("float32"),
        np.array([0, 1, 2, 0, 1]),
    )
    found = list(chapter.kernel_gradients(model, images, labels).values())

    def loss():
        scores = model(images)
        losses = ops.sparse_categorical_crossentropy(labels, scores, from_logits=True)
        return float(to_numpy(losses).mean(dtype="float64"))

    for variable, expected in zip(
        (model.layers[1].kernel, model.layers[3].kernel), found, strict=True
    ):
        start, quotients = to_numpy(variable).copy(), []
        for index in np.ndindex(*start.shape):
            ends = []
            for step in (1e-2, -1e-2):
                moved = start.copy()
                moved[index] += step
                variable.assign(moved)
                ends.append(loss())
            quotients.append((ends[0] - ends[1]) / 2e-2)
        variable.assign(start)
        assert np.sqrt(np.mean(np.square(quotients))) == pytest.approx(
            expected, rel=1e-2
        )
