"""The same notebooks elsewhere: JAX and PyTorch, XLA, and twice in a row (``make backends``).

Which of these tests run depends on ``KERAS_BACKEND``; each notebook is executed in a fresh kernel
and nothing is written.
"""

import importlib.util

import keras
import nbformat
import pytest
from nbclient import NotebookClient

from tools import bench
from utils import execute, runtime, verdicts

BACKEND = keras.config.backend()
pytestmark = [pytest.mark.backends, pytest.mark.parametrize("name", execute.names())]

TWO_STEPS = """\
import keras

def fit_two_steps(self, x=None, y=None, batch_size=None, epochs=1, _fit=keras.Model.fit, **kwargs):
    steps = len(x) if isinstance(x, keras.utils.PyDataset) else -(-len(y) // (batch_size or 32))
    if epochs * steps <= 20:  # some lessons count the updates of a short training
        return _fit(self, x, y, batch_size, epochs, **kwargs)
    return _fit(self, x, y, batch_size, 1, **kwargs | {"steps_per_epoch": 2})

keras.Model.fit = fit_two_steps
"""
XLA = """\
import keras
import tensorflow

tensorflow.config.run_functions_eagerly = lambda run_eagerly: None  # runtime.start asks for it

def compile_with_xla(self, *args, _compile=keras.Model.compile, **kwargs):
    xla = {"jit_compile": True, "run_eagerly": False}
    return _compile(self, *args, **kwargs | xla)

keras.Model.compile = compile_with_xla
"""


def run(name: str, preamble: str = "") -> nbformat.NotebookNode:
    """Execute a notebook in the quick profile, with some code after its setup cell."""
    notebook = execute.read(name)
    if preamble:
        setup = next(
            i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"
        )
        notebook.cells.insert(setup + 1, nbformat.v4.new_code_cell(preamble))
    NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(execute.NOTEBOOKS)}},
    ).execute()
    return notebook


@pytest.mark.skipif(BACKEND == "tensorflow", reason="for JAX and PyTorch")
def test_runs_without_tensorflow(name):
    assert importlib.util.find_spec("tensorflow") is None, (
        "this environment must not have it"
    )
    notebook = run(name, TWO_STEPS)
    assert execute.banner(notebook)["backend"] == BACKEND
    facts = execute.bundles(notebook, verdicts.VERDICT_MIME)
    claims = [c for c in verdicts.load_claims().values() if c.chapter == name]
    decidable = [claim for claim in claims if claim.verdict != verdicts.NOT_DECIDABLE]
    assert {fact["id"] for fact in facts} == {claim.id for claim in decidable}
    assert all(fact["matches"] for fact in facts)
    foreign = {c.id for c in decidable if c.backend not in (None, BACKEND)}
    assert {fact["id"] for fact in facts if fact["stored"]} >= foreign


@pytest.mark.skipif(BACKEND != "tensorflow", reason="with the default backend")
def test_runs_compiled_as_on_a_gpu(name):
    run(name, XLA)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="with the default backend")
def test_two_quick_runs_give_identical_numbers(name):
    first, second = (bench.displayed(run(name)) for _ in range(2))
    assert len(first) > 5
    assert first == second
    assert runtime.profile() == "quick"
