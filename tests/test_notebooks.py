"""Every notebook: its pair, its provenance, its claims, its figures, its first cell."""

import json
import re

import nbformat
import pytest

from utils import execute, provenance, runtime, verdicts

NAMES = execute.names()
TEMPLATE = runtime.ROOT / "tools" / "setup_cell.py"
CODE = re.compile(r"tf\.keras|keras\.backend")

pytestmark = pytest.mark.parametrize("name", NAMES)


def cells(
    notebook: nbformat.NotebookNode,
) -> list[tuple[str, str, list[str], str | None]]:
    return [
        (
            cell.cell_type,
            cell.source.rstrip(),
            sorted(cell.metadata.get("tags", [])),
            cell.metadata.get("cellView"),
        )
        for cell in notebook.cells
    ]


def test_pair_has_the_same_cells(name):
    import jupytext

    script = jupytext.read(execute.NOTEBOOKS / f"{name}.py")
    pair = cells(execute.read(name))
    for number, (written, shown) in enumerate(zip(cells(script), pair, strict=False)):
        assert written == shown, (
            f"{name}: cell {number} of the .py and the .ipynb differ; make pairs"
        )
    assert len(script.cells) == len(pair), (
        f"{name}: the .py and the .ipynb differ; make pairs"
    )


def test_displayed_run_is_the_run_of_this_code(name):
    assert execute.problems(name) == []


def test_no_error_nor_warning_is_stored(name):
    outputs = [
        output
        for cell in execute.read(name).cells
        for output in cell.get("outputs", [])
    ]
    kinds = {output.output_type for output in outputs}
    streams = {output.get("name", "stdout") for output in outputs}
    assert "error" not in kinds
    assert streams == {"stdout"}


def test_nothing_displayed_names_this_machine(name):
    text = json.dumps([cell.get("outputs") for cell in execute.read(name).cells])
    text = re.sub(r'"image/png": "[^"]*"', "", text)
    assert str(runtime.ROOT) not in text
    assert not re.search(r"/\w[^\s'\"]*/(utils|site-packages)/", text), (
        "a path of some machine"
    )
    assert "Traceback" not in text


def test_claims_are_decided_once_with_the_registered_verdict(name):
    expected = {
        claim.id: claim.verdict
        for claim in verdicts.load_claims().values()
        if claim.chapter == name and claim.verdict != verdicts.NOT_DECIDABLE
    }
    facts = execute.bundles(execute.read(name), verdicts.VERDICT_MIME)
    assert sorted(fact["id"] for fact in facts) == sorted(expected)
    assert {fact["id"]: fact["verdict"] for fact in facts} == expected


def test_figures_have_alt_text(name):
    for number, cell in enumerate(execute.read(name).cells):
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                assert len(alt) >= 20, (
                    f"{name}: cell {number} shows a figure without alt text"
                )


def test_first_code_cell_is_the_setup_cell(name):
    notebook = execute.read(name)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert execute.SETUP_TAG in first.metadata.tags
    assert first.source.rstrip() == TEMPLATE.read_text(encoding="utf8").rstrip()


def test_reads_in_colab_and_github(name):
    for cell in execute.read(name).cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"\{\w+(:\w+)?\}`|^:::|^```\{", cell.source, re.M), (
                cell.source
            )
            # MyST takes such a line for a comment or a break: it would vanish from the page.
            assert not re.search(r"^(%|\+\+\+)", cell.source, re.M), cell.source
        elif "QUOTED" not in cell.source:
            assert not CODE.search(cell.source), (
                "tf.keras or keras.backend outside a quotation"
            )


def test_notebook_is_small(name):
    assert (execute.NOTEBOOKS / f"{name}.ipynb").stat().st_size < 2_000_000


def test_stored_results_are_real_and_full(name):
    for key, record in provenance.load_results(name)["experiments"].items():
        assert record["profile"] == "full", key
        assert record["data"] != "synthetic", key


def test_displayed_run_says_it_is_reduced_if_an_experiment_is(name):
    records = provenance.load_results(name)["experiments"].values()
    if "cpu" in {record["scale"] for record in records}:
        assert execute.read(name).metadata["course"]["scale"] == "cpu"
