"""The functions that chapter 01 writes."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from scipy import signal

from tests.notebook import load

chapter = load("01_convolution")
rng = np.random.default_rng(0)


# --- sizes -------------------------------------------------------------------------------------


def positions(n, f, s, p):
    """Starts of the windows that fit in n values with p zeros on each side, one by one."""
    return [i for i in range(0, n + 2 * p, s) if i + f <= n + 2 * p]


@pytest.mark.parametrize("p", [0, 1, 2, 3])
@pytest.mark.parametrize("s", [1, 2, 3, 5])
def test_output_size_counts_the_windows_that_fit(s, p):
    for n, f in itertools.product(range(1, 14), range(1, 8)):
        if f <= n + 2 * p:
            assert chapter.output_size(n, f, s, p) == len(positions(n, f, s, p))


def test_output_size_of_the_document():
    assert chapter.output_size(7, 3) == 5
    assert chapter.output_size(5, 3, 2) == 2
    assert chapter.output_size(5, 3, s=1, p=1) == 5
    assert isinstance(chapter.output_size(6, 3, 2), int)


@pytest.mark.parametrize(
    "case", [(3, 5), (3, 6, 1, 1), (5, 0), (5, 3, 0), (5, 3, 1, -1)]
)
def test_output_size_refuses_what_does_not_fit_in_french(case):
    with pytest.raises(ValueError, match="filtre"):
        chapter.output_size(*case)


# --- convolution -------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("f", [1, 2, 3, 5])
def test_conv1d_is_scipys_correlation(f, stride, padding):
    x, kernel = rng.normal(size=11), rng.normal(size=f)
    expected = signal.correlate(np.pad(x, padding), kernel, mode="valid")[::stride]
    np.testing.assert_allclose(chapter.conv1d(x, kernel, stride, padding), expected)


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 4), (5, 3)])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_conv2d_is_scipys_correlation(channels, shape, stride, padding):
    depth = () if channels is None else (channels,)
    image, kernel = rng.normal(size=(9, 12, *depth)), rng.normal(size=(*shape, *depth))
    border = [(padding, padding)] * 2 + [(0, 0)] * len(depth)
    expected = signal.correlate(np.pad(image, border), kernel, mode="valid")
    expected = expected.reshape(expected.shape[:2])[::stride, ::stride]
    np.testing.assert_allclose(
        chapter.conv2d(image, kernel, stride=stride, padding=padding), expected
    )


def test_conv2d_of_bytes_does_not_overflow():
    image = np.full((3, 3), 200, dtype="uint8")
    kernel = np.array([[1, 1, 1], [0, -9, 0], [1, 1, 1]], dtype="int8")
    assert chapter.conv2d(image, kernel) == 200 * 6 - 200 * 9
    assert chapter.conv1d(image[0], np.ones(3, "uint8")) == 600


def test_conv2d_leaves_its_arguments_alone():
    image, kernel = rng.normal(size=(4, 4)), rng.normal(size=(2, 2))
    before = image.copy(), kernel.copy()
    chapter.conv2d(image, kernel, padding=1)
    assert (image == before[0]).all()
    assert (kernel == before[1]).all()


def test_conv2d_refuses_other_channels_in_french():
    with pytest.raises(ValueError, match="canaux"):
        chapter.conv2d(np.ones((5, 5, 3)), np.ones((3, 3)))
    with pytest.raises(ValueError, match="canaux"):
        chapter.conv2d(np.ones((5, 5, 3)), np.ones((3, 3, 2)))


def test_conv2d_is_keras_layer_with_several_filters():
    image = rng.normal(size=(8, 9, 3)).astype("float32")
    layer = keras.layers.Conv2D(filters=4, kernel_size=3, strides=2)
    maps = ops.convert_to_numpy(layer(image[None]))[0]
    kernels = ops.convert_to_numpy(layer.kernel)
    for k in range(4):
        ours = chapter.conv2d(image, kernels[..., k], stride=2)
        np.testing.assert_allclose(ours, maps[..., k], atol=1e-5)


@pytest.mark.parametrize("depth", [(), (3,)])
def test_convolution_by_a_product_of_matrices_is_the_same(depth):
    image, kernel = rng.normal(size=(7, 9, *depth)), rng.normal(size=(3, 2, *depth))
    np.testing.assert_allclose(
        chapter.windows_conv2d(image, kernel), chapter.conv2d(image, kernel)
    )


def test_correlation_does_not_commute():
    assert chapter.commutes(signal.convolve)
    assert not chapter.commutes(signal.correlate)


def test_signed_response_is_grey_where_the_filter_says_nothing():
    response = np.array([-50.0, 0, 10, 500])
    np.testing.assert_allclose(chapter.signed(response, 20), [0, 0.5, 0.75, 1])


def test_every_row_of_a_sum_of_products_says_its_sum():
    text = chapter.sum_of_products(chapter.TABLE[:3, :3], chapter.CROSS)
    products, total = text.split(" = ")
    terms = [part.split(" × ") for part in products.split(" + ")]
    assert len(terms) == 9
    assert sum(int(x) * int(w) for x, w in terms) == int(total) == 4


# --- images ------------------------------------------------------------------------------------


def test_luma_is_pillows():
    from PIL import Image

    image = rng.integers(0, 256, size=(9, 7, 3)).astype("uint8")
    theirs = np.asarray(Image.fromarray(image).convert("L"), dtype=float)
    assert np.abs(chapter.luma_grey(image) - theirs).max() <= 1
    assert chapter.LUMA.sum() == pytest.approx(1)


def test_the_disc_vanishes_in_the_mean_only():
    sign = chapter.disc(inside=(0, 200, 0), outside=(200, 0, 0))
    assert np.ptp(chapter.mean_grey(sign)) == 0
    assert np.ptp(chapter.luma_grey(sign)) > 50


def test_shuffle_pixels_is_one_permutation_for_all_images():
    images = np.arange(2 * 9).reshape(2, 3, 3)
    first, second = chapter.shuffle_pixels(images).reshape(2, 9)
    assert sorted(first) == list(range(9))
    assert (second - first == 9).all()
    assert (first != np.arange(9)).any()


def test_features_have_their_shape_and_range():
    images = rng.integers(0, 256, size=(2, 28, 28)).astype("uint8")
    assert chapter.hog_features(images).shape == (2, 1296)
    assert chapter.raw_pixels(images).shape == (2, 784)
    batch = chapter.to_input(images)
    assert batch.shape == (2, 28, 28, 1)
    assert batch.dtype == "float32"
    assert 0.9 < batch.max() <= 1


def test_tuned_svm_keeps_the_best_of_its_trials():
    features = rng.normal(size=(200, 5))
    labels = (features[:, 0] > 0).astype(int)
    svm = chapter.tuned_svm(features, labels)
    assert svm.C in (0.01, 0.1, 1)
    assert svm.score(features, labels) > 0.95


# --- receptive field ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stack", "side"),
    [
        ([], 1),
        ([(3, 1)] * 5, 11),
        ([(7, 2), (3, 2), (3, 1), (3, 1)], 27),  # ResNet: stem, pooling, one block
        ([(2, 2)] * 3, 8),
    ],
)
def test_receptive_field(stack, side):
    assert chapter.receptive_field(stack) == side
    if stack:
        assert chapter.measured_field(stack) == side


# --- networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "weights"), [("small_cnn", 35_338), ("deep_cnn", 289_066)]
)
def test_network_has_its_weights_and_reloads(build, weights, tmp_path):
    model = getattr(chapter, build)()
    assert model.count_params() == weights
    images = rng.integers(0, 256, size=(3, 28, 28)).astype("uint8")
    expected = chapter.scores(model, images)
    assert expected.shape == (3, 10)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(chapter.scores(reloaded, images), expected, atol=1e-5)


def test_accuracy_counts_the_highest_score():
    class Fixed:
        def __call__(self, batch, training):
            return np.eye(3)[[0, 1, 2, 2]][: len(batch)]

    images = np.zeros((4, 2, 2), "uint8")
    assert chapter.accuracy(Fixed(), images, np.array([0, 1, 2, 0])) == 0.75


def test_same_padding_solution_gives_keras_output():
    for n, f, s in itertools.product(range(1, 9), (1, 2, 3, 4), (1, 2, 3)):
        x, kernel = rng.normal(size=n), rng.normal(size=f)
        before, after = chapter.same_padding_solution(n, f, s)
        ours = chapter.conv1d(np.pad(x, (before, after)), kernel, stride=s)
        theirs = ops.conv(
            x.astype("float32")[None, :, None],
            kernel.astype("float32")[:, None, None],
            s,
            "same",
        )
        theirs = ops.convert_to_numpy(theirs)[0, :, 0]
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
