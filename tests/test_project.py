"""The project's own promises: pins, addresses, commands, workflows, and the tools behind them."""

import ast
import importlib.metadata
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import bench, new_chapter, repository, run_tests, venv

ROOT = Path(__file__).resolve().parents[1]
# Direct dependencies that no file imports: commands, plugins, backends.
NOT_IMPORTED = {
    "ipykernel": "the kernel of the notebooks",
    "nbmake": "a plugin of pytest",
    "ruff": "a command: make lint",
    "tensorflow": "the default backend of Keras, under this name on macOS and ARM",
    "tensorflow-cpu": "the default backend of Keras",
}
# Imported, but not to be listed: they are there as long as the package that is listed.
COMES_WITH = {
    "beautifulsoup4": "jupyter-book",
    "cycler": "matplotlib",
    "docutils": "sphinx",
    "pybtex": "sphinx",
    "markdown-it-py": "jupyter-book",
    "mdit-py-plugins": "jupyter-book",
    "ipython": "ipykernel",
    "packaging": "pytest",
    "torch": "make backends",
}


def read(path):
    return (ROOT / path).read_text(encoding="utf8")


def known_to_git():
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        command, cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    return sorted(
        path
        for name in set(listed.split("\0"))
        if name and (path := ROOT / name).is_file()
    )


@pytest.fixture
def copy(tmp_path):
    """A copy of the working tree, in a folder with a space and an accent."""
    root = tmp_path / "un dossier accentué"
    for path in known_to_git():
        target = root / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    return root


# --- requirements ------------------------------------------------------------------------------


def direct():
    """[(requirement, reason)] of requirements.in."""
    lines = [
        line for line in read("requirements.in").splitlines() if line and line[0] != "#"
    ]
    parts = [line.partition("#") for line in lines]
    return [
        (Requirement(before.strip()), reason.strip()) for before, _, reason in parts
    ]


def pins():
    """{name: [versions]} of requirements.txt; a package may have one pin for each Python."""
    found = {}
    for line in read("requirements.txt").splitlines():
        if line and not line.lstrip().startswith("#"):
            (specifier,) = (pin := Requirement(line)).specifier
            assert specifier.operator == "==", line
            found.setdefault(canonicalize_name(pin.name), []).append(specifier.version)
    return found


def test_each_direct_dependency_has_a_reason():
    assert [
        str(requirement) for requirement, reason in direct() if len(reason) < 5
    ] == []


def test_pins_satisfy_what_is_asked():
    versions = pins()
    for requirement, _ in direct():
        pinned = versions[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in pinned), (
            requirement
        )


def imported():
    """Distributions of the third-party modules that the project's files import."""
    modules = set()
    for path in (path for path in known_to_git() if path.suffix == ".py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(node.module.partition(".")[0])
    modules -= set(sys.stdlib_module_names)
    ours = {path.stem for path in known_to_git() if path.suffix == ".py"} | {
        "utils",
        "tests",
        "tools",
    }
    found = importlib.metadata.packages_distributions()
    return {
        canonicalize_name(name)
        for module in modules - ours
        for name in found.get(module, [module])
    }


def test_direct_dependencies_are_those_imported():
    asked = {canonicalize_name(requirement.name) for requirement, _ in direct()}
    backends = {"tensorflow", "tensorflow-cpu"}
    used = imported() - backends
    assert asked - used == set(NOT_IMPORTED), "listed, not imported, or the reverse"
    assert used - asked <= set(COMES_WITH), "imported, not in requirements.in"


# --- the repository's address ------------------------------------------------------------------


def address():
    return yaml.safe_load(read("_config.yml"))["repository"]["url"]


def test_the_address_is_the_same_everywhere():
    owner, name = repository.parse(address())
    assert yaml.safe_load(read("CITATION.cff"))["repository-code"] == address()
    assert f"git clone {address()} " in read("README.md")
    assert f'REPOSITORY = "{address()}"\n' in read("tools/setup_cell.py")
    colab = re.compile(
        r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/blob/(\w+)/([\w./-]+)"
    )
    links = [
        (path.name, link)
        for path in known_to_git()
        if path.suffix in {".md", ".py", ".ipynb", ".yml"}
        for link in colab.findall(path.read_text(encoding="utf8"))
    ]
    assert (
        "README.md",
        (f"{owner}/{name}", "main", "notebooks/01_convolution.ipynb"),
    ) in links
    for file, (where, branch, target) in links:
        assert (where, branch) == (f"{owner}/{name}", "main"), file
        assert (ROOT / target).is_file(), (
            f"{file}: Colab link to {target}, which does not exist"
        )


def test_change_of_address(copy):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    old, new = address(), "https://github.com/{}/{}".format("Une-Ecole", "vision.2")
    changed = repository.change(copy, new + ".git/")
    short = re.escape("/".join(repository.parse(old)))
    left = [
        p
        for p in changed
        if re.search(rf"(?<![\w.-]){short}(?![\w-])", p.read_text("utf8"))
    ]
    assert left == []
    names = {path.relative_to(copy).as_posix() for path in changed}
    assert {"_config.yml", "README.md", "CITATION.cff", "tools/setup_cell.py"} <= names
    assert {f"notebooks/10_siamese{suffix}" for suffix in (".py", ".ipynb")} <= names
    assert repository.change(copy, new) == [], "a second call changes nothing"
    repository.change(copy, old)
    after = {path: path.read_bytes() for path in before}
    assert [path for path in before if before[path] != after[path]] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://github.com/a/b.git", "https://github.com/c/d.git"),
        ("see github.com/a/b.", "see github.com/c/d."),
        ("/github/a/b/blob/main/x", "/github/c/d/blob/main/x"),
        ("https://a.github.io/b/index.html", "https://c.github.io/d/index.html"),
        (
            "github.com/a/b-c github.com/aa/b github.com/x-a/b",
            "github.com/a/b-c github.com/aa/b github.com/x-a/b",
        ),
    ],
)
def test_replaces_whole_names_only(text, expected):
    assert repository.replace(text, ("a", "b"), ("c", "d")) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "github.com/a/b",
        "http://github.com/a/b",
        "https://github.com/a",
        "https://github.com/a/b/c",
        "https://example.org/a/b",
        "https://github.com/a/b c",
        "https://github.com/-a/b",
    ],
)
def test_refuses_what_is_not_an_address(copy, url):
    with pytest.raises(ValueError, match="is not an address"):
        repository.change(copy, url)


# --- commands and workflows --------------------------------------------------------------------


def targets():
    return re.search(r"^\.PHONY: (.+)$", read("Makefile"), re.MULTILINE)[1].split()


def make(*arguments, cwd=ROOT):
    return subprocess.run(
        ["make", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("target", targets())
def test_target_can_be_made(target):
    result = make("--dry-run", target)
    assert result.returncode == 0, result.stderr


def test_help_lists_every_target():
    listed = re.findall(r"^  make (\w+) +\S", make("help").stdout, re.MULTILINE)
    assert sorted(listed) == sorted(targets())
    assert make().stdout == make("help").stdout


def test_readme_says_what_there_is():
    readme = read("README.md")
    first_screen = readme[: readme.index("## ")]
    assert "make book" in first_screen
    assert "make test" in first_screen
    assert [target for target in targets() if f"make {target}" not in readme] == []
    code = "\n".join(
        path.read_text(encoding="utf8")
        for path in known_to_git()
        if path.suffix in {".py", ".yml"} or path.name in {"Makefile", "run"}
    )
    used = set(re.findall(r"COURSE_[A-Z_]*[A-Z]", code))
    assert used == set(re.findall(r"^\| `(COURSE_\w+)`", readme, re.MULTILINE))
    version = pins()["tensorflow"][0]
    assert f'"tensorflow[and-cuda]=={version}"' in readme


def test_links_of_the_readme_exist():
    for name in ("README.md", "CONTRIBUTING.md"):
        links = re.findall(r"\]\(([^)\s]+)\)", read(name))
        local = [link for link in links if "://" not in link]
        assert local
        assert [link for link in local if not (ROOT / link).exists()] == []


def workflows():
    return sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("path", workflows(), ids=lambda path: path.name)
def test_workflow_calls_make_targets_with_pinned_actions(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf8"))
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    called = [
        name for command in commands for name in re.findall(r"\bmake (\w+)", command)
    ]
    if path.name != "publish.yml":
        assert called
    assert set(called) <= set(targets())
    uses = re.findall(r"uses: (.+)", path.read_text(encoding="utf8"))
    assert [
        use
        for use in uses
        if not re.fullmatch(r"\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)
    ] == []


def test_workflows_cover_what_is_promised():
    said = "\n".join(path.read_text(encoding="utf8") for path in workflows())
    for command in (
        "make test",
        "make lock UPGRADE=1",
        "make backends",
        "make links",
        "make colab",
        "make offline",  # builds the site
    ):
        assert f"run: {command}" in said


def test_ci_script_is_a_program():
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & stat.S_IXUSR
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_no_large_file():
    large = [path for path in known_to_git() if path.stat().st_size > 2_000_000]
    assert large == []


def test_licences_and_citation():
    assert read("LICENSE").startswith("MIT License")
    assert "Attribution 4.0 International Public License" in read("LICENSE-CONTENT")
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors", "license"} <= citation.keys()


# --- tools -------------------------------------------------------------------------------------


def test_environment_for_another_backend():
    text = venv.requirements(
        "numpy==2\ntensorflow-cpu==2 ; x\ntensorflow==2\nkeras==3",
        ["tensorflow"],
        ["jax==1"],
    )
    assert text == "numpy==2\nkeras==3\njax==1\n"


@pytest.mark.parametrize(
    ("version", "good"), [((3, 10), 0), ((3, 11), 1), ((3, 13), 1), ((3, 14), 0)]
)
def test_refuses_another_python(monkeypatch, version, good):
    monkeypatch.setattr(sys, "version_info", (*version, 0))
    if good:
        venv.check_python()
    else:
        with pytest.raises(SystemExit, match=r"(?s)est nécessaire.*is needed"):
            venv.check_python()


@pytest.fixture
def installer(copy, monkeypatch):
    """make in the copy, with a false uv: it logs its calls, and fails while `fail` is there."""
    programs = copy.parent / "bin"
    programs.mkdir()
    uv = programs / "uv"
    uv.write_text(
        "#!/bin/sh\n"
        'echo "$1" >> ../uv.log\n'
        'if [ "$1" = venv ]; then mkdir -p .venv/bin\n'
        f'ln -s "{sys.executable}" .venv/bin/python; fi\n'
        'if [ "$1" = pip ] && [ -e ../fail ]; then exit 1; fi\n'
    )
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def install():
        log = copy.parent / "uv.log"
        log.unlink(missing_ok=True)
        result = make(".venv/installed.txt", f"PYTHON={sys.executable}", cwd=copy)
        return result.returncode == 0, log.read_text().split() if log.exists() else []

    return copy, install


def test_environment_is_installed_once_and_whole(installer):
    root, install = installer
    (root.parent / "fail").touch()
    assert install() == (False, ["venv", "pip"])
    assert not (root / ".venv/installed.txt").exists(), (
        "a half environment is taken for a whole one"
    )
    (root.parent / "fail").unlink()
    assert install() == (True, ["venv", "pip"])
    assert install() == (True, [])
    os.utime(root / "requirements.txt")
    assert install() == (True, []), "the same pins, newer by date: nothing to install"
    with (root / "requirements.txt").open("a") as file:
        file.write("colour==1\n")
    os.utime(root / "requirements.txt", (2_000_000_000, 2_000_000_000))
    assert install() == (True, ["pip"])
    (root / ".venv/installed.txt").write_text("other pins")
    os.utime(root / ".venv/installed.txt", (1_000_000_000, 1_000_000_000))
    (root.parent / "fail").touch()
    assert install() == (False, ["pip"])
    (root.parent / "fail").unlink()
    assert install() == (True, ["venv", "pip"]), (
        "an interrupted upgrade starts again from nothing"
    )
    assert (root / ".venv/installed.txt").read_text() == (
        root / "requirements.txt"
    ).read_text()


def test_every_test_and_notebook_is_run():
    without, browser, *paths = run_tests.programs().values()
    assert without == ["tests", "-m", "not browser and not backends"]
    assert browser == ["tests", "-m", "browser"]
    assert [path[-1] for path in paths] == [
        str(path) for path in sorted(ROOT.glob("notebooks/*.ipynb"))
    ]


def test_a_failure_is_named_and_the_others_still_run(capsys):
    def program(text, status=0):
        return [sys.executable, "-c", f"print({text!r}); raise SystemExit({status})"]

    commands = [("first", program("one", 3)), ("second", program("two"))]
    commands.append(("third", program("three", 5)))
    assert sorted(run_tests.run(commands)) == ["first", "third"]
    shown = capsys.readouterr().out
    assert [text in shown for text in ("one", "two", "three")] == [True] * 3


def test_report_of_budgets():
    def line(name, seconds, memory_mb, twice="identical"):
        entry = {"seconds": seconds, "memory_mb": memory_mb, "twice": twice}
        return bench.line(name, entry)

    assert line("10_siamese", 59, 2_999).endswith("2999 MB of 3000 MB  identical")
    assert line("10_siamese", 61, 3_001).endswith("over budget: time and memory")
    assert "budget" not in line("03_architectures", 61, 100)
    differs = {"spread": 1e-6, "where": "x"}
    assert "differs" in line("10_siamese", 1, 1, differs)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (["perte 0,5000", "fin"], "identical"),
        (
            ["perte 0,4000", "fin"],
            {"spread": pytest.approx(0.2), "where": "perte 0,5000"},
        ),
        (["perte 0,5000"], {"spread": None, "where": "2 lines, then 1"}),
        (["perte 0,5000", "autre"], {"spread": None, "where": "fin"}),
    ],
)
def test_bench_says_how_far_two_runs_are_apart(second, expected):
    assert bench.spread(["perte 0,5000", "fin"], second) == expected


def test_bench_marks_what_is_over_budget_in_the_whole_course():
    record = {
        "suite_seconds": 601,
        "book_seconds": 30,
        "pages": {"a": 10, "b": 2_000_001},
    }
    suite, book, page = bench.whole(record).splitlines()
    assert suite.endswith("over budget")
    assert not book.endswith("over budget")
    assert page.startswith("b ")
    assert page.endswith("over budget")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("attention", "two digits"),
        ("12-attention", "two digits"),
        ("12_Attention", "two digits"),
        ("../12_a", "two digits"),
        ("10_siamese", "exists"),
        ("10_other", "that of 10_siamese"),
    ],
)
def test_refuses_a_name_of_chapter(name, why):
    with pytest.raises(ValueError, match=why):
        new_chapter.check(ROOT, name)


def test_table_of_contents_stays_in_order():
    text = "chapters:\n  - file: book/usage\n"
    for name in ("10_a", "12_b"):
        text += f"  - file: notebooks/{name}\n    sections:\n      - file: book/quiz/{name}\n"
    for name, place in (("09_x", 1), ("11_x", 2), ("13_x", 3)):
        entries = yaml.safe_load(new_chapter.with_toc_entry(text, name))["chapters"]
        assert entries[place] == {
            "file": f"notebooks/{name}",
            "sections": [{"file": f"book/quiz/{name}"}],
        }
        assert len(entries) == 4


def keep_the_first_cell(path):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = notebook.cells[:1]
    title = notebook.cells[0].source.splitlines()[
        0
    ]  # what follows may link to a section
    notebook.cells[0].source = title
    nbformat.write(notebook, path)


def test_new_chapter_passes_the_tests(copy):
    """Made, executed in quick and registered; then its own tests pass, and the book builds."""
    before = [path.stem for path in copy.glob("notebooks/*.py")]

    def python(*arguments):
        command = [sys.executable, *arguments]
        result = subprocess.run(
            command, cwd=copy, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr

    python("tools/new_chapter.py", "12_attention")
    assert "template" not in (copy / "notebooks/12_attention.py").read_text(
        encoding="utf8"
    )
    python("-m", "ruff", "check", "notebooks/12_attention.py")
    python("-m", "ruff", "format", "--check", "notebooks/12_attention.py")
    tests = ("notebooks", "quiz", "teaching")
    files = [f"tests/test_{name}.py" for name in tests]
    python("-m", "pytest", "-q", "-k", "12_attention", *files)
    vendor = ROOT / "book/_static/vendor"
    if vendor.exists():  # MathJax, without which no book is built offline
        shutil.copytree(vendor, copy / "book/_static/vendor")
        for name in before:  # the site's own tests read the whole of these chapters
            keep_the_first_cell(copy / f"notebooks/{name}.ipynb")
        python("tools/book.py")
        assert (copy / "_build/html/notebooks/12_attention.html").is_file()
    with pytest.raises(ValueError, match="exists"):
        new_chapter.add(copy, "12_attention")
