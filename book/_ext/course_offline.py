"""No third party at reading time: MathJax is vendored at build time, Thebe's scripts are dropped.

MathJax comes from the npm registry (``NPM_CONFIG_REGISTRY`` is honoured), is checked against a
pinned SHA-512 and kept in ``book/_static/vendor/`` (git-ignored): a later build needs no network.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import urllib.request
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

VERSION = "3.2.2"
# npm view mathjax@3.2.2 dist.integrity
INTEGRITY = (
    "sha512-Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0"
    "/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw=="
)
KEPT = ("LICENSE", "es5/tex-chtml.js", "es5/output/chtml/fonts/woff-v2/")
VENDOR = Path("book/_static/vendor")
FOLDER = f"mathjax-{VERSION}"


def fetch(registry: str, timeout: float = 60.0) -> bytes:
    """Return the npm tarball of MathJax, checked; a French ExtensionError says the remedy."""
    url = f"{registry.rstrip('/')}/mathjax/-/mathjax-{VERSION}.tgz"
    remedy = (
        f"Reconstruisez le site une fois avec un accès à {registry}, ou indiquez un miroir dans la "
        f"variable NPM_CONFIG_REGISTRY, ou copiez le dossier {VENDOR / FOLDER} d'une autre machine."
    )
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            archive = answer.read()
    except (OSError, HTTPException) as error:
        raise ExtensionError(
            f"Impossible de télécharger MathJax (les formules) depuis {url} : {error}. {remedy}"
        ) from None
    algorithm, expected = INTEGRITY.split("-", 1)
    digest = base64.b64encode(hashlib.new(algorithm, archive).digest()).decode()
    if digest != expected:
        raise ExtensionError(
            f"Le fichier reçu de {url} n'est pas MathJax {VERSION} (empreinte SHA-512 inattendue). "
            + remedy
        )
    return archive


def install(vendor: Path, registry: str) -> Path:
    """Put MathJax's files under ``vendor`` unless they are there; all of them or none."""
    target = vendor / FOLDER
    if target.is_dir():
        return target
    archive = fetch(registry)
    vendor.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=vendor, prefix=".mathjax-"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as package:
        for member in package.getmembers():
            name = PurePosixPath(member.name).relative_to("package").as_posix()
            content = package.extractfile(member) if name.startswith(KEPT) else None
            if content:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                (partial / name).write_bytes(content.read())
    partial.chmod(0o755)
    try:
        partial.rename(target)
    except OSError:  # another build installed it meanwhile
        shutil.rmtree(partial)
    return target


def vendor_mathjax(app: Sphinx) -> None:
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or "https://registry.npmjs.org"
    install(Path(app.srcdir) / VENDOR, registry)


def drop_thebe_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Jupyter Book adds Thebe even when off: a script error, an unpkg address on each page."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe"
        not in f"{getattr(script, 'filename', '')}{getattr(script, 'attributes', '')}"
    ]


def drop_thebe_settings(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for raw in list(doctree.findall(nodes.raw)):
        if "x-thebe-config" in raw.astext() or raw.astext().startswith(
            "<script>kernelName"
        ):
            raw.parent.remove(raw)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", vendor_mathjax, priority=100)
    app.connect("doctree-resolved", drop_thebe_settings, priority=900)
    app.connect("html-page-context", drop_thebe_scripts, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
