"""Experiments of a notebook, and running a notebook in a profile with a stamp of its provenance."""

import argparse
import datetime
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from utils import provenance, runtime

NOTEBOOKS = runtime.ROOT / "notebooks"
SETUP_TAG = "setup"  # the cell that finds the repository: the same in every notebook, tested apart
SCALES = ("cpu", "gpu")


# --- inside a notebook -------------------------------------------------------------------------


@dataclass(frozen=True)
class Experiment:
    """The result of an experiment: ``here`` from this run, ``full`` from the stored full run.

    ``values`` is the best there is: ``full`` when it exists, else ``here``.
    """

    name: str
    here: Mapping[str, Any]
    full: Mapping[str, Any] | None
    origin: str

    @property
    def values(self) -> Mapping[str, Any]:
        return self.here if self.full is None else self.full

    def decided(self, key: str) -> Any:
        """Return a value of the full run, None when it was never made."""
        return None if self.full is None else self.full[key]


def cell_sources() -> list[str]:
    """Return the cells executed so far in this kernel (empty outside IPython)."""
    from IPython import get_ipython

    shell = get_ipython()
    return [] if shell is None else list(shell.user_ns["In"])


def experiment(name: str, function: Callable[[], Mapping[str, Any]]) -> Experiment:
    """Run an experiment, or resume it, and say in one line where the numbers come from.

    ``function`` takes no argument and returns numbers, lists and arrays by name. In the quick
    profile its small run is executed, and the stored full result comes with it. In the full one it
    is executed and stored, or resumed when neither it nor what it names has changed since.
    """
    defined = provenance.definitions(cell_sources())
    digest = provenance.function_hash(function.__name__, defined)
    stored = provenance.load_results(runtime.notebook())["experiments"].get(name)
    fresh = stored is not None and stored["hash"] == digest
    full = runtime.profile() == "full"
    if full and fresh and _as_good_as_here(stored):
        origin = f"exécution complète du {describe(stored)}"
        runtime.show_markdown(
            f"*Expérience « {name} » : reprise de l'{origin} ; même code.*"
        )
        return Experiment(name, stored["values"], stored["values"], origin)

    begin = time.perf_counter()
    values = provenance.plain(function())
    seconds = time.perf_counter() - begin
    record = {
        "hash": digest,
        **runtime.environment(),
        "date": now(),
        "duration_s": round(seconds, 1),
        "peak_memory_mb": peak_memory_mb(resource.RUSAGE_SELF),
        "values": values,
    }
    if full:
        if runtime.data_source() != "synthetic":
            provenance.store_result(runtime.notebook(), "experiments", name, record)
        origin = f"exécution complète du {describe(record)}"
        runtime.show_markdown(f"*Expérience « {name} » : {origin}.*")
        return Experiment(name, values, values, origin)

    text = f"*Expérience « {name} » : exécution rapide ici ({duration(seconds)}).*"
    if stored is None:
        runtime.show_markdown(
            f"{text} *Aucun résultat complet n'est encore enregistré.*"
        )
        return Experiment(name, values, None, "exécution rapide")
    origin = f"exécution complète du {describe(stored)}"
    change = "" if fresh else " **Le code a changé depuis.**"
    runtime.show_markdown(f"{text} *Résultat complet enregistré : {origin}.*{change}")
    return Experiment(name, values, stored["values"], origin)


def _as_good_as_here(stored: Mapping[str, Any]) -> bool:
    """A stored result serves unless this machine would use other data or a larger scale."""
    larger = SCALES.index(runtime.scale()) > SCALES.index(stored["scale"])
    return not larger and stored["data"] == runtime.data_source()


def now() -> str:
    """Return the date and time, ISO 8601, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()


def duration(seconds: float) -> str:
    """Write a duration in French: ``8 s``, ``4 min 12 s``, ``1 h 03 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def peak_memory_mb(who: int) -> int:
    """Return the peak memory of this process (``RUSAGE_SELF``) or of those it waited for."""
    unit = 1024**2 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return round(resource.getrusage(who).ru_maxrss / unit)


def describe(record: Mapping[str, Any]) -> str:
    """Write the provenance of a stored result in French."""
    date = datetime.datetime.fromisoformat(record["date"]).strftime("%d/%m/%Y")
    data = {"real": ", données réelles", "synthetic": ", données de remplacement"}
    reduced = ", à l'échelle d'un processeur" if record["scale"] == "cpu" else ""
    return (
        f"{date} ({record['device']}, {runtime.BACKEND_TITLES[record['backend']]}"
        f"{data.get(record['data'], '')}{reduced}, {duration(record['duration_s'])})"
    )


# --- from outside: running a notebook ----------------------------------------------------------


class RunError(RuntimeError):
    """A notebook could not be run; the message is for the person who asked."""


def code_cells(notebook: NotebookNode) -> list[str]:
    """Return the sources of the code cells that make the results (not the setup cell)."""
    return [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and SETUP_TAG not in cell.metadata.get("tags", [])
    ]


def read(name: str) -> NotebookNode:
    """Read ``notebooks/NAME.ipynb``."""
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def names() -> list[str]:
    """Return the names of the chapters that exist, in order."""
    return sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]_*.py"))


def update_pair(name: str) -> None:
    """Bring the code and prose of the ``.py`` into its ``.ipynb``, keeping outputs."""
    script = NOTEBOOKS / f"{name}.py"
    if not script.exists():
        raise RunError(f"{script} does not exist; chapters: {', '.join(names())}")
    command = [sys.executable, "-m", "jupytext", "--quiet", "--to", "ipynb", "--update"]
    subprocess.run([*command, str(script)], check=True)


def run(name: str, profile: runtime.Profile) -> tuple[NotebookNode, dict[str, Any]]:
    """Execute a notebook in a fresh kernel; return it, stamped, and its stamp. Writes nothing.

    Duration and peak memory count the experiments that were resumed, as if they had been executed.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        A cell failed.
    RunError
        The notebook displays no banner, so nothing says what was run.
    """
    notebook = read(name)
    environment = os.environ | {"COURSE_PROFILE": profile, "COURSE_STRICT": "1"}
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        record_timing=False,
    )
    date, begin = now(), time.perf_counter()
    client.execute(env=environment)
    seconds = time.perf_counter() - begin
    join_streams(notebook)
    stored = (
        provenance.load_results(name)["experiments"].values()
        if profile == "full"
        else ()
    )
    resumed = [record for record in stored if record["date"] < date]
    peaks = [peak_memory_mb(resource.RUSAGE_CHILDREN)]
    stamp = banner(notebook)
    # The banner comes before most choices of sizes: the experiments know whether one was reduced.
    scales = [stamp["scale"]] + [record["scale"] for record in stored]
    stamp |= {
        "scale": min(scales, key=SCALES.index),
        "date": now(),
        "duration_s": round(
            seconds + sum(record["duration_s"] for record in resumed), 1
        ),
        "peak_memory_mb": max(
            peaks + [record.get("peak_memory_mb", 0) for record in resumed]
        ),
        "code_hash": provenance.code_hash(code_cells(notebook)),
    }
    notebook.metadata["course"] = stamp
    return notebook, stamp


def join_streams(notebook: NotebookNode) -> None:
    """Make one output of what a cell prints in a row: how it is cut depends on timing."""
    for cell in notebook.cells:
        joined: list[NotebookNode] = []
        for output in cell.get("outputs", []):
            last = joined[-1] if joined else {}
            if output.get("name") and output.get("name") == last.get("name"):
                last["text"] += output["text"]
            else:
                joined.append(output)
        if joined:
            cell["outputs"] = joined


def bundles(notebook: NotebookNode, mime: str) -> list[dict[str, Any]]:
    """Return the JSON facts of one kind that the cells displayed, in order."""
    return [
        output.data[mime]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if mime in output.get("data", {})
    ]


def banner(notebook: NotebookNode) -> dict[str, Any]:
    """Return what the last banner of an executed notebook says of its run."""
    found = bundles(notebook, runtime.RUN_MIME)
    if not found:
        raise RunError("the notebook displays no banner: call runtime.banner(...)")
    keys = ("profile", "scale", "data", "backend", "device", "versions")
    return {key: found[-1][key] for key in keys}


def problems(name: str) -> list[str]:
    """Say, in English, why the displayed run of a notebook is not the run of its code."""
    notebook = read(name)
    sources = code_cells(notebook)
    stamp = notebook.metadata.get("course")
    found = []
    if stamp is None:
        found.append(f"{name}: never executed; make run NB={name} PROFILE=full")
    elif stamp["code_hash"] != provenance.code_hash(sources):
        found.append(
            f"{name}: a code cell is newer than the output displayed; make run NB={name}"
        )
    stored = provenance.load_results(name)["experiments"]
    written = provenance.experiments(sources)
    for key in written.keys() & stored.keys():
        if stored[key]["hash"] != written[key]:
            found.append(
                f"{name}: experiment {key!r} is stale; make run NB={name} PROFILE=full"
            )
    if stamp and stamp["profile"] == "full":
        missing = written.keys() - stored.keys()
        found += [
            f"{name}: experiment {key!r} was never run in full" for key in missing
        ]
    found += [
        f"{name}: no cell runs the stored {key!r}"
        for key in stored.keys() - written.keys()
    ]
    return sorted(found)


def rank(stamp: Mapping[str, Any] | None) -> tuple[int, int, int]:
    """Order runs by what they prove: full before quick, real data first, full scale first."""
    if stamp is None:
        return (-1, -1, -1)
    return (
        stamp["profile"] == "full",
        stamp["data"] != "synthetic",
        SCALES.index(stamp["scale"]),
    )


def run_and_write(name: str, profile: runtime.Profile) -> Path:
    """Run a notebook and write it where its readers find it.

    A run that proves less than the one displayed goes to ``build/notebooks`` instead.
    """
    update_pair(name)
    displayed = read(name).metadata.get("course")
    notebook, stamp = run(name, profile)
    path = NOTEBOOKS / f"{name}.ipynb"
    if rank(stamp) < rank(displayed):
        path = runtime.ROOT / "build" / "notebooks" / f"{name}.ipynb"
    provenance.write_text(path, nbformat.writes(notebook) + "\n")
    return path


def main(arguments: list[str] | None = None) -> int:
    """Run one notebook: ``python -m utils.execute 10_siamese --profile full``."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.execute", description=main.__doc__
    )
    parser.add_argument("name", help="notebook, as in notebooks/NAME.py")
    parser.add_argument("--profile", choices=("quick", "full"), default="quick")
    options = parser.parse_args(arguments)
    try:
        path = run_and_write(Path(options.name).stem, options.profile)
    except RunError as error:
        print(error, file=sys.stderr)
        return 2
    stamp = nbformat.read(path, as_version=4).metadata["course"]
    print(
        f"{path.relative_to(runtime.ROOT)}: {stamp['profile']} profile, {stamp['data']} data, "
        f"{stamp['duration_s']:.0f} s, {stamp['peak_memory_mb']} MB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
