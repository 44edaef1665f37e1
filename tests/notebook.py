"""Load what a notebook defines, without running it: for tests of its functions."""

import ast
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

    Constants are the top-level assignments to UPPERCASE names. Nothing else of the notebook runs:
    no training, no figure, no data. What functions read from other cells can be set on the module
    afterwards. Loaded once: a class registered twice with Keras would not be the one saved.

    Raises
    ------
    FileNotFoundError
        No such notebook.
    """
    source = (NOTEBOOKS / f"{name}.py").read_text(encoding="utf8")
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if _defines(node)]
    module = ModuleType(f"notebook_{name}")
    sys.modules[module.__name__] = module  # Keras looks a class up in its module
    exec(compile(tree, f"notebooks/{name}.py", "exec"), module.__dict__)
    return module


def _defines(node: ast.stmt) -> bool:
    if isinstance(node, ast.AugAssign):
        return isinstance(node.target, ast.Name) and node.target.id.isupper()
    if isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return len(names) == len(node.targets) and all(name.isupper() for name in names)
    return isinstance(
        node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
    )
