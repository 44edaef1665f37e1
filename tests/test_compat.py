"""The remedies for older versions of Keras (`make colab` runs them on Colab's)."""

from types import SimpleNamespace

import keras
import pytest
from keras import layers

from utils import compat


def fake_keras(version):
    model = type("Model", (), {"compile": lambda self, **options: options})
    return SimpleNamespace(
        __version__=version, Model=model, Input=keras.Input, layers=layers
    )


@pytest.mark.parametrize(("version", "lacks"), [("3.13.2", True), ("3.15.0", False)])
def test_only_an_older_keras_is_completed(version, lacks):
    fake = fake_keras(version)
    assert compat.complete(fake) == lacks
    assert (fake.Input is not keras.Input) == lacks


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ([["accuracy"]], ["accuracy"]),
        (["accuracy"], ["accuracy"]),
        ([["accuracy"], ["accuracy"]], [["accuracy"], ["accuracy"]]),
        (None, None),
    ],
)
def test_metrics_of_one_output_lose_their_outer_list(given, passed):
    fake = fake_keras("3.13.2")
    compat.complete(fake)
    assert fake.Model().compile(metrics=given) == {"metrics": passed}


def test_an_input_that_nothing_reads_has_a_reader():
    fake = fake_keras("3.13.2")
    compat.complete(fake)
    assert not keras.Input((3,))._keras_history.operation._outbound_nodes
    assert fake.Input((3,))._keras_history.operation._outbound_nodes
