"""Networks with ImageNet weights: found, downloaded, or absent."""

import keras
import numpy as np
import pytest

from tests.test_datasets import data, needs_real, real  # noqa: F401 - fixtures
from utils import datasets, zoo
from utils.downloads import DataUnavailable


@pytest.mark.parametrize(("top", "parameters"), [(True, 4_694_024), (False, 3_413_024)])
def test_efficientnet_lite0(top, parameters):
    model = zoo.efficientnet_lite0(64, top)
    assert model.count_params() == parameters
    assert model.output_shape == ((None, 1000) if top else (None, 1280))
    blocks = [
        n for n in (layer.name for layer in model.layers) if n.endswith("project_conv")
    ]
    assert len(blocks) == 16
    last = model.get_layer("top_activation")
    assert last.output.shape[1:] == (2, 2, 1280)  # 64 / 32


def test_absent_in_quick(data):  # noqa: F811
    assert zoo.imagenet_base(96) is None
    assert zoo.imagenet_classifier() is None


@pytest.mark.parametrize("top", [True, False])
def test_a_file_of_weights_is_used(data, top):  # noqa: F811
    reference = zoo.efficientnet_lite0(96, top)
    folder = data / "pretrained"
    folder.mkdir(parents=True)
    reference.save_weights(folder / zoo.LITE0.format("" if top else "_no_top"))
    found = zoo.imagenet_classifier(96) if top else zoo.imagenet_base(96)
    assert found.title == "EfficientNet-Lite0"
    images = np.random.default_rng(0).integers(256, size=(1, 96, 96, 3)).astype("uint8")
    x = found.preprocess(images)
    assert x.dtype == "float32"
    assert np.abs(x).max() <= 1
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(found.model(x)),
        keras.ops.convert_to_numpy(reference(x)),
    )


@pytest.mark.parametrize("top", [True, False])
def test_full_profile_asks_keras(data, monkeypatch, top):  # noqa: F811
    monkeypatch.setenv("COURSE_PROFILE", "full")
    asked = {}

    def application(**arguments):
        asked.update(arguments)
        return "a model"

    monkeypatch.setattr(keras.applications, "MobileNetV2", application)
    found = zoo.imagenet_classifier(160) if top else zoo.imagenet_base(160)
    assert (found.title, found.model) == ("MobileNetV2", "a model")
    assert asked == {
        "input_shape": (160, 160, 3),
        "include_top": top,
        "pooling": None if top else "avg",
    }  # and weights="imagenet", its default
    images = np.array([[[[0, 127, 255]]]], "uint8")
    reference = keras.applications.mobilenet_v2.preprocess_input(
        images.astype("float32")
    )
    np.testing.assert_allclose(found.preprocess(images), reference, atol=1e-6)


def test_full_profile_without_network(data, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COURSE_PROFILE", "full")

    def refused(**arguments):
        raise OSError("no network")

    monkeypatch.setattr(keras.applications, "MobileNetV2", refused)
    with pytest.raises(DataUnavailable, match="Que faire"):
        zoo.imagenet_base(96)


def test_feature_maps_of_mobilenet_are_absent_in_quick(data):  # noqa: F811
    assert zoo.mobilenet_v2(64) is None


def test_feature_maps_of_mobilenet_from_a_file(data):  # noqa: F811
    reference = keras.applications.MobileNetV2(
        input_shape=(160, 160, 3), include_top=False, weights=None
    )
    (data / "pretrained").mkdir(parents=True)
    reference.save_weights(data / "pretrained" / zoo.MOBILENET)
    found = zoo.mobilenet_v2(64)  # another size than that of the file
    assert found.output_shape == (None, 2, 2, 1280)
    for ours, theirs in zip(found.weights, reference.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs)
        )


def test_feature_maps_of_mobilenet_downloaded(data, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COURSE_PROFILE", "full")
    blank = keras.applications.MobileNetV2
    published = blank(input_shape=(128, 128, 3), include_top=False, weights=None)
    published.layers[1].kernel.assign(published.layers[1].kernel * 0 + 3)

    def application(**arguments):
        return blank(**arguments) if "weights" in arguments else published

    monkeypatch.setattr(keras.applications, "MobileNetV2", application)
    kernel = zoo.mobilenet_v2(64).layers[1].kernel
    assert float(keras.ops.min(kernel)) == 3


@needs_real("pretrained")
def test_real_weights_name_a_cat(real):  # noqa: F811
    found = zoo.imagenet_classifier()
    image = datasets.photographs()["chelsea"]
    crop = keras.ops.image.resize(image[:, 75:375].astype("float32"), (224, 224))
    x = found.preprocess(keras.ops.convert_to_numpy(crop)[None])
    best = keras.ops.convert_to_numpy(found.model(x)).argmax()
    name = datasets.imagenet_classes()[best][1]
    assert name in ("Egyptian_cat", "tabby", "tiger_cat")
