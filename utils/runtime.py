"""Run profile, seed and banner: what a notebook asks of the machine it runs on.

This module imports nothing from ``utils`` but ``compat``, a leaf.
"""

import contextlib
import importlib
import os
import platform
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from utils import compat


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Send file descriptor 2 to nowhere: TensorFlow's start-up lines look like errors."""
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


# What TensorFlow calls an error here (a fallback of oneDNN, an optimisation left out) is none for a
# reader; a real one is raised. And oneDNN's own allocator keeps the memory of what is deleted.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
with _silent_stderr():
    import keras

compat.complete(keras)

ROOT = Path(__file__).resolve().parents[1]
RUN_MIME = "application/vnd.course.run+json"
BACKEND_TITLES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}

Profile = Literal["quick", "full"]
Scale = Literal["gpu", "cpu"]
T = TypeVar("T")


class HasSource(Protocol):
    """What the banner needs to know of a data set (``utils.datasets.Dataset`` has it)."""

    title: str
    source: Literal["real", "synthetic"]
    detail: str


class _State:
    """What the running notebook has said so far."""

    notebook: str | None = None
    data: Literal["real", "synthetic", "none"] = "none"
    reduced: bool = False


_state = _State()


def profile() -> Profile:
    """Return the run profile: ``COURSE_PROFILE``, else full where a GPU is visible, else quick.

    Raises
    ------
    ValueError
        ``COURSE_PROFILE`` is neither ``quick`` nor ``full`` (message in French).
    """
    value = os.environ.get("COURSE_PROFILE", "").strip().lower()
    if value == "quick":
        return "quick"
    if value == "full":
        return "full"
    if value:
        raise ValueError(
            f"COURSE_PROFILE vaut « {value} » : choisissez « quick » (rapide) ou « full » "
            "(complet)."
        )
    return "full" if gpu_name() else "quick"


def pick(*, quick: T, full: T, cpu: T | None = None) -> T:
    """Choose a size by profile; ``cpu`` is what a full run does where no GPU is visible.

    When ``cpu`` is returned the whole run is marked as one at the scale of a processor.
    """
    if profile() == "quick":
        return quick
    if cpu is None or gpu_name():
        return full
    _state.reduced = True
    return cpu


def scale() -> Scale:
    """Return ``gpu`` for a run at full scale, ``cpu`` once a ``cpu=`` reduction was used."""
    return "cpu" if _state.reduced else "gpu"


def strict() -> bool:
    """True in tests and CI, where a verdict that fails must raise instead of warning."""
    return any(
        os.environ.get(name) for name in ("COURSE_STRICT", "CI", "PYTEST_CURRENT_TEST")
    )


def start(notebook: str, seed: int = 0, *, eager: bool = True) -> None:
    """Open the run of a notebook (``"10_siamese"``): remember its name and fix every seed.

    eager: in quick, TensorFlow runs eagerly, because tracing takes longer than the few updates that
        follow; a chapter whose quick run makes thousands of small steps says False.
    """
    _state.notebook, _state.data, _state.reduced = notebook, "none", False
    keras.utils.set_random_seed(seed)
    if backend() == "tensorflow":
        config = importlib.import_module("tensorflow").config
        config.run_functions_eagerly(eager and profile() == "quick")
        # the input pipelines of `fit` stay compiled: nothing to tell a reader
        warnings.filterwarnings("ignore", message="Even though the `tf.config")


def notebook() -> str:
    """Return the name given to ``start``; a French RuntimeError when it was not called."""
    if _state.notebook is None:
        raise RuntimeError(
            "Aucun chapitre ouvert : exécutez d'abord la cellule qui appelle runtime.start(...)."
        )
    return _state.notebook


def data_source() -> Literal["real", "synthetic", "none"]:
    """Return the source announced by the banner: stand-ins win as soon as one is used."""
    return _state.data


def backend() -> str:
    """Return the Keras backend: ``tensorflow``, ``jax`` or ``torch``."""
    return keras.config.backend()


def gpu_name() -> str | None:
    """Return the name of the first GPU that the backend sees, None without one."""
    module = importlib.import_module(backend())
    if backend() == "tensorflow":
        found = module.config.list_physical_devices("GPU")
        details = (
            module.config.experimental.get_device_details(found[0]) if found else {}
        )
        return details.get("device_name", "GPU") if found else None
    if backend() == "jax":
        found = [device for device in module.devices() if device.platform == "gpu"]
        return found[0].device_kind if found else None
    return module.cuda.get_device_name(0) if module.cuda.is_available() else None


def device_name() -> str:
    """Return the device in French: the GPU's name, or the processor and its cores."""
    return gpu_name() or f"processeur ({os.cpu_count()} cœurs)"


def versions() -> dict[str, str]:
    """Return the versions of Python, Keras, the backend and NumPy."""
    names = ("keras", backend(), "numpy")
    found = {name: str(importlib.import_module(name).__version__) for name in names}
    return {"python": platform.python_version(), **found}


def environment() -> dict[str, Any]:
    """Return what identifies this run: profile, scale, data, backend, device, versions."""
    return {
        "profile": profile(),
        "scale": scale(),
        "data": data_source(),
        "backend": backend(),
        "device": device_name(),
        "versions": versions(),
    }


def banner(*datasets: HasSource) -> None:
    """Display in one French line how this run is made and where its data come from."""
    sources = {item.source for item in datasets}
    _state.data = (
        "none" if not sources else "synthetic" if "synthetic" in sources else "real"
    )
    titles = {"quick": "Profil rapide", "full": "Profil complet"}
    found = versions()
    parts = [
        f"**{titles[profile()]}**",
        *(f"{item.title} : {item.detail}" for item in datasets),
        f"{BACKEND_TITLES[backend()]} {found[backend()]}, Keras {found['keras']}",
        device_name(),
    ]
    details = " ; ".join(f"{item.title} : {item.detail}" for item in datasets)
    show_bundle(" · ".join(parts), RUN_MIME, {**environment(), "data_detail": details})


def show_bundle(
    markdown: str, mime: str | None = None, data: dict[str, Any] | None = None
) -> None:
    """Display Markdown with, beside it, the same fact as JSON for the pages built from it."""
    bundle: dict[str, Any] = {"text/markdown": markdown, "text/plain": markdown}
    if mime:
        bundle[mime] = data
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import display

        display(bundle, raw=True)
    else:
        print(markdown)


def show_markdown(text: str) -> None:
    """Display Markdown in a notebook, print it elsewhere."""
    show_bundle(text)


def show_table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> None:
    """Display a Markdown table; cells are written with ``str`` and may hold Markdown."""

    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    rule = line(":--" for _ in header)
    show_markdown("\n".join([line(header), rule, *(line(row) for row in rows)]))
