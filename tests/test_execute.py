"""Profile, hashes of code, experiments, running and stamping a notebook."""

import json
import os
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

from utils import execute, provenance, runtime, verdicts


@pytest.fixture(autouse=True)
def eager():
    """Whether TensorFlow runs eagerly, put back for the tests that follow."""
    tensorflow = pytest.importorskip("tensorflow")
    before = tensorflow.config.functions_run_eagerly()
    yield tensorflow.config.functions_run_eagerly
    tensorflow.config.run_functions_eagerly(before)


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of its own: notebooks, results and claims in a temporary folder."""
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    monkeypatch.setattr(execute, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(provenance, "RESULTS", tmp_path / "results")
    (tmp_path / "notebooks").mkdir()
    runtime.start("99_test")
    return tmp_path


# --- profile -----------------------------------------------------------------------------------


def test_profile_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "full")
    assert runtime.profile() == "full"
    monkeypatch.setenv("COURSE_PROFILE", "moyen")
    with pytest.raises(ValueError, match="choisissez « quick »"):
        runtime.profile()


@pytest.mark.parametrize(("gpu", "expected"), [("H100", "full"), (None, "quick")])
def test_profile_follows_the_gpu_when_unset(monkeypatch, gpu, expected):
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    monkeypatch.setattr(runtime, "gpu_name", lambda: gpu)
    assert runtime.profile() == expected


@pytest.mark.parametrize(("profile", "expected"), [("quick", True), ("full", False)])
def test_quick_runs_are_eager(monkeypatch, eager, profile, expected):
    monkeypatch.setenv("COURSE_PROFILE", profile)
    runtime.start("99_test")
    assert eager() == expected
    runtime.start("99_test", eager=False)
    assert not eager()


@pytest.mark.parametrize(
    ("profile", "gpu", "expected", "scale"),
    [
        ("quick", None, 1, "gpu"),
        ("full", "H100", 100, "gpu"),
        ("full", None, 10, "cpu"),
    ],
)
def test_pick(monkeypatch, profile, gpu, expected, scale):
    monkeypatch.setenv("COURSE_PROFILE", profile)
    monkeypatch.setattr(runtime, "gpu_name", lambda: gpu)
    runtime.start("99_test")
    assert runtime.pick(quick=1, full=100, cpu=10) == expected
    assert runtime.scale() == scale


def test_full_run_without_reduction_is_at_full_scale(monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "full")
    monkeypatch.setattr(runtime, "gpu_name", lambda: None)
    runtime.start("99_test")
    assert runtime.pick(quick=1, full=100) == 100
    assert runtime.scale() == "gpu"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux shows it")
def test_the_memory_of_a_deleted_tensor_is_given_back():
    tensorflow = pytest.importorskip("tensorflow")

    def resident_mb():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    before = resident_mb()
    tensor = tensorflow.random.stateless_uniform((400, 2**18), (0, 0))  # 400 MiB
    assert resident_mb() > before + 300
    del tensor
    assert resident_mb() < before + 100


def test_notebook_must_be_opened(monkeypatch):
    monkeypatch.setattr(runtime._state, "notebook", None)
    with pytest.raises(RuntimeError, match="Aucun chapitre ouvert"):
        runtime.notebook()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.2, "8 s"), (59.7, "1 min 00 s"), (252, "4 min 12 s"), (3780, "1 h 03 min")],
)
def test_duration(seconds, text):
    assert execute.duration(seconds) == text


# --- hashes ------------------------------------------------------------------------------------

CELL = 'def train():\n    """Train."""\n    return EPOCHS + helper(1)  # a comment\n'
HELPER = "def helper(x):\n    return 2 * x\n"
CONSTANT = "EPOCHS = runtime.pick(quick=1, full=20)\n"


def train_hash(*sources):
    return provenance.function_hash("train", provenance.definitions(sources))


def test_comments_formatting_and_docstrings_do_not_count():
    other = (
        "def train():\n  '''Other words.'''\n  return (EPOCHS +\n          helper(1))\n"
    )
    assert provenance.code_hash([CELL]) == provenance.code_hash([other])


@pytest.mark.parametrize(
    "change", [("1)", "2)"), ("helper(1)", "-helper(1)"), ("train", "trains")]
)
def test_one_character_of_code_counts(change):
    assert provenance.code_hash([CELL]) != provenance.code_hash([CELL.replace(*change)])


def test_experiment_hash_follows_what_the_function_names():
    reference = train_hash(CELL, HELPER, CONSTANT)
    assert train_hash(CELL, HELPER.replace("2", "3"), CONSTANT) != reference
    assert train_hash(CELL, HELPER, CONSTANT.replace("20", "30")) != reference
    assert (
        train_hash(CELL, HELPER, CONSTANT, "def other():\n    return 3\n") == reference
    )


def test_experiment_hash_ignores_a_namesake_of_its_variables():
    train = "def train(rate):\n    for step in range(3):\n        rate *= step\n    return rate"
    for other in ("def step(x):\n    return x", "def rate(x):\n    return x"):
        defined = provenance.definitions([train, other])
        alone = provenance.function_hash("train", provenance.definitions([train]))
        assert provenance.function_hash("train", defined) == alone


def test_experiment_hash_ignores_the_quick_profile():
    assert train_hash(
        CELL, HELPER, CONSTANT.replace("quick=1", "quick=2")
    ) == train_hash(CELL, HELPER, CONSTANT)


def test_a_quick_size_given_afterwards_leaves_the_hash_alone():
    always, reduced = (
        "EPOCHS = 20\n",
        "EPOCHS = runtime.pick(quick=1, full=20, cpu=10)\n",
    )
    assert train_hash(CELL, HELPER, CONSTANT) == train_hash(CELL, HELPER, always)
    assert train_hash(CELL, HELPER, reduced) != train_hash(CELL, HELPER, always)


def test_hash_is_the_same_on_every_python():
    """Computed once with Python 3.11; the syntax tree has other empty fields in 3.12 and 3.13."""
    assert train_hash(CELL, HELPER, CONSTANT) == "a48be4e7d4d07784"


def test_experiments_are_found_in_the_cells():
    cells = [CELL, HELPER, CONSTANT, 'run = experiment("name", train)\n']
    assert provenance.experiments(cells) == {"name": train_hash(*cells)}


def test_plain_rounds_and_refuses():
    assert provenance.plain(
        {"a": np.float32(1 / 3), "b": np.arange(2), "c": (True, None)}
    ) == {
        "a": 0.333333,
        "b": [0, 1],
        "c": [True, None],
    }
    with pytest.raises(TypeError, match="cannot store a set"):
        provenance.plain({1, 2})


# --- experiments -------------------------------------------------------------------------------


def measure():
    measure.calls += 1
    return {"value": np.float64(0.25)}


def run_experiment(
    monkeypatch, profile, source="def measure():\n    return 1\n", data="real"
):
    measure.calls = 0
    monkeypatch.setenv("COURSE_PROFILE", profile)
    monkeypatch.setattr(runtime._state, "data", data)
    monkeypatch.setattr(execute, "cell_sources", lambda: [source])
    return execute.experiment("first", measure), measure.calls


def test_quick_runs_and_shows_the_stored_full_result(course, monkeypatch):
    alone, calls = run_experiment(monkeypatch, "quick")
    assert (alone.values, alone.full, calls) == ({"value": 0.25}, None, 1)
    assert alone.decided("value") is None
    assert not provenance.results_path("99_test").exists()

    run_experiment(monkeypatch, "full")
    beside, calls = run_experiment(monkeypatch, "quick")
    assert (beside.decided("value"), calls) == (0.25, 1)
    assert "exécution complète du" in beside.origin


def test_full_stores_then_resumes_until_the_code_changes(course, monkeypatch, capsys):
    assert run_experiment(monkeypatch, "full")[1] == 1
    record = provenance.load_results("99_test")["experiments"]["first"]
    assert record["values"] == {"value": 0.25}
    assert {
        "hash",
        "profile",
        "scale",
        "backend",
        "device",
        "data",
        "versions",
        "date",
    } < set(record)
    assert run_experiment(monkeypatch, "full")[1] == 0
    assert "reprise" in capsys.readouterr().out
    assert run_experiment(monkeypatch, "full", "def measure():\n    return 2\n")[1] == 1


def test_full_on_stand_ins_stores_nothing(course, monkeypatch):
    assert run_experiment(monkeypatch, "full", data="synthetic")[1] == 1
    assert not provenance.results_path("99_test").exists()


def test_larger_scale_runs_again(course, monkeypatch):
    monkeypatch.setattr(runtime._state, "reduced", True)
    assert run_experiment(monkeypatch, "full")[1] == 1
    assert run_experiment(monkeypatch, "full")[1] == 0
    monkeypatch.setattr(runtime._state, "reduced", False)
    assert run_experiment(monkeypatch, "full")[1] == 1
    monkeypatch.setattr(runtime._state, "reduced", True)
    assert run_experiment(monkeypatch, "full")[1] == 0, (
        "a larger scale serves a smaller one"
    )


def test_interrupted_writing_leaves_the_file_whole(course, monkeypatch):
    run_experiment(monkeypatch, "full")
    before = provenance.results_path("99_test").read_text(encoding="utf8")
    monkeypatch.setattr(
        provenance.os, "replace", lambda *_: (_ for _ in ()).throw(OSError)
    )
    with pytest.raises(OSError):
        provenance.store_result("99_test", "experiments", "second", {"hash": "x"})
    assert provenance.results_path("99_test").read_text(encoding="utf8") == before


# --- verdicts ----------------------------------------------------------------------------------


def claim(**fields):
    base = {
        "id": "x",
        "document": "003",
        "chapter": "99_test",
        "quote": "q",
        "verdict": "confirmé",
    }
    return verdicts.Claim(**(base | fields))


@pytest.mark.parametrize(
    ("fields", "measured", "given"),
    [
        ({"stated": 10}, 10, "confirmé"),
        ({"stated": 10}, 11, "réfuté"),
        ({"stated": 10, "tolerance": 1}, 11, "confirmé"),
        ({"stated": 10, "corrected": 11}, 11, "corrigé"),
        ({"stated": 10, "corrected": 11}, 12, "réfuté"),
        ({"stated": 0.9, "relation": ">="}, 0.95, "confirmé"),
        ({"stated": 0.9, "relation": ">="}, 0.85, "réfuté"),
        ({"stated": 0.9, "relation": "<="}, 0.85, "confirmé"),
        ({"stated": True}, True, "confirmé"),
        ({"stated": True, "corrected": False}, False, "corrigé"),
        ({"stated": 1}, True, "réfuté"),
        ({"stated": [28, 28]}, (28, 28), "confirmé"),
        ({"stated": [28, 28]}, (28, 1), "réfuté"),
    ],
)
def test_verdict_of_a_measure(fields, measured, given):
    assert claim(**fields).gives(measured) == given


@pytest.fixture
def registry(course, monkeypatch):
    entries = [
        {
            "id": "a",
            "document": "003",
            "chapter": "99_test",
            "quote": "dix",
            "stated": 10,
        }
        | {"verdict": "confirmé"},
        {
            "id": "t",
            "document": "003",
            "chapter": "99_test",
            "quote": "tf",
            "stated": True,
        }
        | {"verdict": "réfuté", "backend": "tensorflow"},
    ]
    path = course / "claims.yml"
    path.write_text(json.dumps(entries), encoding="utf8")
    monkeypatch.setattr(verdicts, "load_claims", lambda: verdicts_load(path))
    monkeypatch.setattr(verdicts, "_made", {})
    return path


verdicts_load = verdicts.load_claims


def test_verdict_that_fails_raises_in_tests_and_warns_a_reader(
    registry, monkeypatch, capsys
):
    with pytest.raises(verdicts.VerdictMismatch, match="registered 'confirmé'"):
        verdicts.verdict("a", 11)
    monkeypatch.setattr(runtime, "strict", lambda: False)
    verdicts.verdict("a", 11)
    assert "votre exécution contredit le verdict du cours" in capsys.readouterr().out


def test_verdict_displays_one_line_and_its_facts(registry, capsys):
    verdicts.verdict("a", 10)
    line = capsys.readouterr().out.strip()
    assert line == "> ✓ **Confirmé** — le document 003 dit : « dix ». Mesuré : **10**."
    assert verdicts._made["a"]["verdict"] == "confirmé"


def test_verdict_not_decided_yet(registry, capsys):
    verdicts.verdict("a", None)
    assert "Décidé en profil complet, pas encore exécuté." in capsys.readouterr().out


def test_unregistered_claim_is_refused(registry):
    with pytest.raises(KeyError):
        verdicts.verdict("nothing", 1)


def test_verdict_of_another_backend_shows_the_stored_one(registry, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_PROFILE", "full")
    monkeypatch.setattr(runtime, "backend", lambda: "tensorflow")
    verdicts.verdict("t", lambda: False, backend="tensorflow")
    environment = runtime.environment()
    monkeypatch.setattr(runtime, "backend", lambda: "jax")
    monkeypatch.setattr(
        runtime, "environment", lambda: environment | {"backend": "jax"}
    )
    capsys.readouterr()

    def fails():
        raise AssertionError("must not be called on another backend")

    verdicts.verdict("t", fails, backend="tensorflow")
    assert "Décidé avec TensorFlow : résultat enregistré." in capsys.readouterr().out
    assert verdicts._made["t"]["stored"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "vrai"}, "unknown verdict"),
        ({"relation": "<"}, "unknown relation"),
        ({"verdict": "non vérifiable ici"}, "reason"),
        ({"reason": "parce que"}, "reason"),
    ],
)
def test_registry_is_checked(tmp_path, change, message):
    entry = {
        "id": "a",
        "document": "003",
        "chapter": "c",
        "quote": "q",
        "verdict": "confirmé",
    }
    path = tmp_path / "claims.yml"
    path.write_text(json.dumps([entry | change]), encoding="utf8")
    with pytest.raises(ValueError, match=message):
        verdicts_load(path)
    path.write_text(json.dumps([entry, entry]), encoding="utf8")
    with pytest.raises(ValueError, match="twice"):
        verdicts_load(path)


def test_every_claim_of_a_chapter_has_a_known_document_and_quote():
    for entry in verdicts.load_claims().values():
        assert entry.document in {"000", "001", "002", "003", "004"}
        assert len(entry.quote) > 5
        assert entry.decided in ("quick", "full")
        assert entry.stated is not None or entry.verdict == verdicts.NOT_DECIDABLE


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (133504, "133\u202f504"),
        (9999, "9999"),
        (0.9061234, "0,9061"),
        (2.2204e-16, "2,22\u00a0×\u00a010⁻¹⁶"),
        (True, "oui"),
        ([1, 784], "(1 ; 784)"),
        ([np.int64(-2), -0.0], "(\u22122 ; 0)"),
    ],
)
def test_measures_are_written_in_french(value, text):
    assert verdicts.french(value) == text


# --- running a notebook ------------------------------------------------------------------------


def write_notebook(course, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["setup"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    script = "\n".join(
        [
            f'# %% tags=["setup"]\n{sources[0]}',
            *(f"# %%\n{source}" for source in sources[1:]),
        ]
    )
    (course / "notebooks" / "99_test.py").write_text(script + "\n", encoding="utf8")
    nbformat.write(notebook, course / "notebooks" / "99_test.ipynb")


SETUP = "import sys\nsys.path.insert(0, {root!r})\nfrom utils import runtime"
REAL_ROOT = runtime.ROOT
# The facts of a banner, without Keras: importing it is most of the time of a small notebook.
BANNER = f"""
import os
from IPython.display import display
facts = {{"scale": "gpu", "data": "none", "backend": "", "device": "", "versions": {{}}}}
facts["profile"] = os.environ["COURSE_PROFILE"]
display({{"text/plain": "", {runtime.RUN_MIME!r}: facts}}, raw=True)
"""


@pytest.fixture
def small(course):
    write_notebook(course, "pass", BANNER, "1 + 1")
    return course


def test_run_stamps_and_a_changed_cell_is_named(course):
    banner = "runtime.start('99_test')\nruntime.banner()"
    write_notebook(course, SETUP.format(root=str(REAL_ROOT)), banner, "1 + 1")
    path = execute.run_and_write("99_test", "quick")
    stamp = nbformat.read(path, as_version=4).metadata["course"]
    assert path == execute.NOTEBOOKS / "99_test.ipynb"
    assert (stamp["profile"], stamp["data"], stamp["backend"]) == (
        "quick",
        "none",
        runtime.backend(),
    )
    assert stamp["peak_memory_mb"] > 50
    assert stamp["duration_s"] > 0
    assert execute.problems("99_test") == []

    notebook = execute.read("99_test")
    notebook.cells[2].source = "1 + 2"
    nbformat.write(notebook, path)
    assert "99_test: a code cell is newer" in execute.problems("99_test")[0]
    notebook.cells[2].source = "1 + 1  # said otherwise"
    nbformat.write(notebook, path)
    assert execute.problems("99_test") == []


def test_stamp_counts_the_experiments_that_were_resumed(small):
    record = {
        "scale": "cpu",
        "date": "2020-01-01T00:00:00+00:00",
        "duration_s": 5000.0,
        "peak_memory_mb": 90_000,
    }
    provenance.store_result("99_test", "experiments", "old", record)
    full, quick = (execute.run("99_test", profile)[1] for profile in ("full", "quick"))
    assert full["duration_s"] > 5000 > quick["duration_s"]
    assert full["peak_memory_mb"] == 90_000 > quick["peak_memory_mb"]
    assert (full["scale"], quick["scale"]) == ("cpu", "gpu")  # the banner says gpu


def test_what_is_printed_in_a_row_is_one_output():
    def printed(text, name="stdout"):
        return nbformat.v4.new_output("stream", name=name, text=text)

    table = nbformat.v4.new_output("display_data", data={"text/plain": "a table"})
    parts = [
        printed("a\n"),
        printed("b\n"),
        table,
        printed("c\n"),
        printed("d", "stderr"),
    ]
    cell = nbformat.v4.new_code_cell(outputs=parts)
    execute.join_streams(nbformat.v4.new_notebook(cells=[cell]))
    shown = [output.get("text", "table") for output in cell.outputs]
    assert shown == ["a\nb\n", "table", "c\n", "d"]


def test_quick_run_does_not_replace_a_full_one(small):
    path = execute.run_and_write("99_test", "full")
    before = path.read_bytes()
    other = execute.run_and_write("99_test", "quick")
    assert other == small / "build" / "notebooks" / "99_test.ipynb"
    assert path.read_bytes() == before


def test_failing_cell_writes_nothing(small):
    write_notebook(small, "pass", BANNER, "raise ValueError('no')")
    execute.update_pair("99_test")
    before = (execute.NOTEBOOKS / "99_test.ipynb").read_bytes()
    with pytest.raises(Exception, match="no"):
        execute.run_and_write("99_test", "quick")
    assert (execute.NOTEBOOKS / "99_test.ipynb").read_bytes() == before


def test_notebook_without_banner_is_refused(small):
    write_notebook(small, "pass", "1 + 1")
    with pytest.raises(execute.RunError, match="no banner"):
        execute.run_and_write("99_test", "quick")


def test_never_run_and_stale_experiments_are_named(course, monkeypatch):
    write_notebook(course, "pass", CELL, HELPER, CONSTANT, 'experiment("name", train)')
    assert "never executed" in execute.problems("99_test")[0]
    provenance.store_result("99_test", "experiments", "name", {"hash": "old"})
    provenance.store_result("99_test", "experiments", "gone", {"hash": "old"})
    found = "\n".join(execute.problems("99_test"))
    assert "experiment 'name' is stale" in found
    assert "no cell runs the stored 'gone'" in found


def test_unknown_notebook_is_named(course, capsys):
    assert execute.main(["98_nothing"]) == 2
    assert "98_nothing.py does not exist" in capsys.readouterr().err


def test_stored_lists_of_numbers_take_one_line_and_strings_are_left_alone(course):
    values = {"curve": [0.5, -1e-07, 3], "pairs": [[1, 2], [3, 4]], "text": "[1,  2]"}
    provenance.store_result("99_test", "experiments", "first", values)
    text = provenance.results_path("99_test").read_text(encoding="utf8")
    assert "[ 0.5, -1e-07, 3 ]" in text
    assert provenance.load_results("99_test")["experiments"]["first"] == values
