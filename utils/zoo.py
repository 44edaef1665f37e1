"""Networks with weights learned on ImageNet: where they come from, what their input must be."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from utils.datasets import pretrained
from utils.downloads import DataUnavailable, keras_home

MOBILENET = "mobilenet_v2_1.0_160_no_top.weights.h5"
LITE0 = "efficientnet_lite0_imagenet{}.weights.h5"
LITE0_STAGES = (  # kernel, strides, expansion, filters, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


@dataclass(frozen=True)
class Network:
    """A network and the only inputs that it understands."""

    title: str
    model: keras.Model
    preprocess: Callable[[np.ndarray], np.ndarray]  # bytes (n, h, w, 3) -> float32


def imagenet_base(side: int) -> Network | None:
    """A network without its last layer: float32 (n, side, side, 3) -> features (n, 1280).

    EfficientNet-Lite0 where a file of its weights is found (`utils.datasets.pretrained`). Else None
    in quick profile; in full, MobileNetV2, which Keras downloads.

    side: 96, 128, 160, 192 or 224, the sizes that MobileNetV2 is published for.
    Raises `DataUnavailable` (French) when nothing is found and nothing can be downloaded.
    """
    return _network(side, top=False)


def imagenet_classifier(side: int = 224) -> Network | None:
    """A network with its last layer: float32 (n, side, side, 3) -> 1,000 probabilities.

    Found like `imagenet_base`; `utils.datasets.imagenet_classes` names the classes.
    """
    return _network(side, top=True)


def _network(side: int, top: bool) -> Network | None:
    try:
        path = pretrained(LITE0.format("" if top else "_no_top"))
    except DataUnavailable as missing:
        return Network("MobileNetV2", _mobilenet(side, top, missing), _minus_one_to_one)
    if path is None:
        return None
    model = efficientnet_lite0(side, top)
    model.load_weights(path)
    return Network("EfficientNet-Lite0", model, _lite_scale)


def mobilenet_v2(side: int) -> keras.Model | None:
    """MobileNetV2 without its last layers: float32 (n, side, side, 3) in [-1, 1] -> feature maps.

    Layers are named as in `keras.applications`. Weights: a file (learned at 160 pixels) found by
    `utils.datasets.pretrained`; else None in quick profile; in full, Keras downloads them.

    side: any multiple of 32; what is downloaded was learned at 128 pixels.
    Raises `DataUnavailable` (French) when nothing is found and nothing can be downloaded.
    """
    try:
        path = pretrained(MOBILENET)
    except DataUnavailable as missing:
        model = _blank_mobilenet(side)
        model.set_weights(_mobilenet(128, False, missing).get_weights())
        return model
    if path is None:
        return None
    model = _blank_mobilenet(side)
    model.load_weights(path)
    return model


def _blank_mobilenet(side: int) -> keras.Model:
    return keras.applications.MobileNetV2(
        input_shape=(side, side, 3), include_top=False, weights=None
    )


def _mobilenet(side: int, top: bool, missing: DataUnavailable) -> keras.Model:
    keras_home().mkdir(parents=True, exist_ok=True)  # else Keras writes in /tmp
    try:
        return keras.applications.MobileNetV2(
            input_shape=(side, side, 3), include_top=top, pooling=None if top else "avg"
        )
    except Exception:  # noqa: BLE001 - what get_file raises is not documented
        raise missing from None


def _minus_one_to_one(images: np.ndarray) -> np.ndarray:
    return images.astype("float32") / 127.5 - 1


def _lite_scale(images: np.ndarray) -> np.ndarray:
    return (images.astype("float32") - 127) / 128


def efficientnet_lite0(side: int = 224, top: bool = True) -> keras.Model:
    """EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6 for swish.

    float32 (n, side, side, 3) -> 1,000 probabilities, or 1,280 features with `top=False`. Random
    weights. Layer names follow `keras.applications`.
    Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    """
    inputs = keras.Input((side, side, 3))
    x = _unit(inputs, layers.Conv2D(32, 3, 2, **_PLAIN, name="stem_conv"), "stem_")
    for stage, (kernel, strides, expansion, filters, blocks) in enumerate(
        LITE0_STAGES, start=1
    ):
        for letter in "abcd"[:blocks]:
            name = f"block{stage}{letter}_"
            step = strides if letter == "a" else 1
            x = _inverted_residual(x, kernel, step, expansion, filters, name)
    x = _unit(x, layers.Conv2D(1280, 1, **_PLAIN, name="top_conv"), "top_")
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if top:
        x = layers.Dropout(0.2, name="top_dropout")(x)
        x = layers.Dense(1000, activation="softmax", name="predictions")(x)
    return keras.Model(inputs, x, name="efficientnet_lite0")


_PLAIN = {"padding": "same", "use_bias": False}


def _inverted_residual(x, kernel, strides, expansion, filters, name):
    shortcut, channels = x, x.shape[-1]
    if expansion > 1:
        expand = layers.Conv2D(
            expansion * channels, 1, **_PLAIN, name=f"{name}expand_conv"
        )
        x = _unit(x, expand, f"{name}expand_")
    depthwise = layers.DepthwiseConv2D(kernel, strides, **_PLAIN, name=f"{name}dwconv")
    x = _unit(x, depthwise, name)
    x = layers.Conv2D(filters, 1, **_PLAIN, name=f"{name}project_conv")(x)
    x = layers.BatchNormalization(name=f"{name}project_bn")(x)
    if strides == 1 and channels == filters:
        x = layers.Add(name=f"{name}add")([shortcut, x])
    return x


def _unit(x, convolution, name):
    """Convolution, batch normalisation, ReLU6."""
    x = layers.BatchNormalization(name=f"{name}bn")(convolution(x))
    return layers.ReLU(6, name=f"{name}activation")(x)
