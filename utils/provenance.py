"""What a displayed result came from: hashes of code, and the stored results of a chapter.

Code is hashed through its syntax tree, so comments, formatting, docstrings and prose do not count.
The hash is the same on every supported Python.
"""

import ast
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).resolve().parents[1] / "book" / "results"

NUMBERS = re.compile(
    r"\[\n[-\d.,eE\s]+\]"
)  # a list; no string of JSON holds a line break

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign


def canonical(node: Any) -> str:
    """Write a syntax tree as text, without docstrings and whatever Python versions write apart.

    Of `runtime.pick`, only what a full run depends on is written: giving a constant a quick size
    changes nothing.
    """
    if isinstance(node, ast.AST):
        fields = dict(ast.iter_fields(node))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            fields["body"] = node.body[1:]
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "pick":
            sizes = {key.arg: key.value for key in node.keywords if key.arg != "quick"}
            if sizes.keys() == {"full"}:
                return canonical(sizes["full"])
            fields["keywords"] = [key for key in node.keywords if key.arg in sizes]
        parts = [
            f"{name}={canonical(value)}"
            for name, value in fields.items()
            if _counts(value)
        ]
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join(canonical(item) for item in node)}]"
    return repr(node)


def _counts(value: Any) -> bool:
    """Absent fields differ between Python versions; contexts (load, store) say nothing."""
    return value is not None and value != [] and not isinstance(value, ast.expr_context)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_hash(sources: Iterable[str]) -> str:
    """Hash the code cells of a notebook, in order."""
    return _digest("\n".join(canonical(ast.parse(source)) for source in sources))


def definitions(sources: Iterable[str]) -> dict[str, Definition]:
    """Map each function, class and UPPERCASE constant of the cells to its last definition."""
    found: dict[str, Definition] = {}
    for source in sources:
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = node
            elif isinstance(node, ast.Assign):
                for name in (
                    item for target in node.targets for item in ast.walk(target)
                ):
                    if isinstance(name, ast.Name) and name.id.isupper():
                        found[name.id] = node
    return found


def function_hash(name: str, defined: Mapping[str, Definition]) -> str:
    """Hash a function with every function, class and constant of the notebook that it names.

    Raises
    ------
    KeyError
        No cell defines ``name``.
    """
    seen: dict[str, str] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen[current] = canonical(defined[current])
            waiting.extend(_outer_names(defined[current]) & defined.keys())
    return _digest("\n".join(seen[key] for key in sorted(seen)))


def _outer_names(definition: Definition) -> set[str]:
    """Return the names that a definition reads and does not bind itself.

    A parameter or a variable may bear the name of a function of some other cell.
    """
    nodes = list(ast.walk(definition))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    return {node.id for node in names} - bound


def experiments(sources: Iterable[str]) -> dict[str, str]:
    """Map the name of each ``experiment("name", function)`` call of the cells to its hash."""
    sources = list(sources)
    defined = definitions(sources)
    calls = (node for source in sources for node in ast.walk(ast.parse(source)))
    return {
        call.args[0].value: function_hash(call.args[1].id, defined)
        for call in calls
        if isinstance(call, ast.Call)
        and getattr(call.func, "attr", getattr(call.func, "id", "")) == "experiment"
        and len(call.args) == 2
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[1], ast.Name)
    }


def plain(value: Any) -> Any:
    """Turn arrays and NumPy numbers into JSON values, floats with six significant digits.

    Raises
    ------
    TypeError
        The value is not made of dicts, sequences, arrays, numbers, strings and None.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"an experiment cannot store a {type(value).__name__}")


def results_path(notebook: str) -> Path:
    """Return where the stored results of a chapter live."""
    return RESULTS / f"{notebook}.json"


def load_results(notebook: str) -> dict[str, Any]:
    """Read the stored results of a chapter; empty ones when it was never run in full."""
    path = results_path(notebook)
    if not path.exists():
        return {"experiments": {}, "verdicts": {}}
    return json.loads(path.read_text(encoding="utf8"))


def store_result(
    notebook: str, kind: str, name: str, record: Mapping[str, Any]
) -> None:
    """Add one experiment or verdict to the stored results of a chapter, atomically."""
    stored = load_results(notebook)
    stored[kind][name] = plain(record)
    text = json.dumps(stored, ensure_ascii=False, indent=1) + "\n"
    write_text(results_path(notebook), NUMBERS.sub(_one_line, text))


def _one_line(numbers: re.Match[str]) -> str:
    return " ".join(numbers[0].split())


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf8")
    os.replace(part, path)
