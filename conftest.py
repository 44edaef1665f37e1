"""What holds for every test, however pytest is called: quick profile, stand-ins, no network.

Notebook kernels are started by the tests, so they inherit this environment. A full run, or one on
real data, is `make run NB=... PROFILE=full`; the tests that need real data ask for them by name.
"""

import importlib.util
import os
from pathlib import Path

OFFLINE = Path(__file__).parent / "tests" / "offline"

os.environ |= {
    "COURSE_PROFILE": "quick",
    "COURSE_DATA": "synthetic",
    "COURSE_STRICT": "1",
}
if os.environ.get("COURSE_DATA_DIR"):
    real = Path(
        os.environ["COURSE_DATA_DIR"]
    ).resolve()  # a kernel's folder is not ours
    os.environ.setdefault("COURSE_REAL_DATA_DIR", str(real))

inherited = [
    path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path
]
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(OFFLINE), *inherited]))

spec = importlib.util.spec_from_file_location("offline", OFFLINE / "sitecustomize.py")
spec.loader.exec_module(importlib.util.module_from_spec(spec))  # and here, now
