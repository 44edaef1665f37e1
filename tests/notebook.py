"""Load what a notebook defines, without running it: for tests of its functions."""

import ast
import contextlib
import functools
import os
import sys
from types import ModuleType

os.environ.setdefault("COURSE_PROFILE", "quick")
os.environ.setdefault("COURSE_DATA", "synthetic")

from utils import runtime

NOTEBOOKS = runtime.ROOT / "notebooks"


@functools.cache
def load(name: str) -> ModuleType:
    """Return the imports, functions, classes and constants of ``notebooks/NAME.py``.

    Constants are the top-level assignments to UPPERCASE names; one made from the data, which is
    not loaded, is left out. Nothing else of the notebook runs: no training, no figure. What
    functions read from other cells can be set on the module afterwards. Loaded once: a class
    registered twice with Keras would not be the one saved.

    Raises
    ------
    FileNotFoundError
        No such notebook.
    """
    source = (NOTEBOOKS / f"{name}.py").read_text(encoding="utf8")
    module = ModuleType(f"notebook_{name}")
    sys.modules[module.__name__] = module  # Keras looks a class up in its module
    for node in filter(_defines, ast.parse(source).body):
        code = compile(ast.Module([node], []), f"notebooks/{name}.py", "exec")
        with _left_out(node):
            exec(code, module.__dict__)
    return module


def _left_out(node: ast.stmt) -> contextlib.AbstractContextManager:
    """Let an assignment read a name that no executed cell defines."""
    constant = isinstance(node, ast.Assign | ast.AugAssign)
    return contextlib.suppress(NameError) if constant else contextlib.nullcontext()


def _defines(node: ast.stmt) -> bool:
    if isinstance(node, ast.AugAssign):
        return isinstance(node.target, ast.Name) and node.target.id.isupper()
    if isinstance(node, ast.Assign):  # of a name, or of a tuple of names
        parts = [part for target in node.targets for part in ast.walk(target)]
        kinds = ast.Name | ast.Tuple | ast.Store
        names = [part.id for part in parts if isinstance(part, ast.Name)]
        return all(isinstance(part, kinds) for part in parts) and all(
            name.isupper() for name in names
        )
    return isinstance(
        node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
    )
