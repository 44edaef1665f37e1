"""The Sphinx side of the course: generated pages, prepared chapters, buttons, alternative texts."""

from __future__ import annotations

import json
import re
import shutil
import sys
from html import escape, unescape
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import course_claims
import course_data
import course_map
import course_pages
import course_quiz
import course_teaching
from course_french import typography
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

logger = logging.getLogger(__name__)

MARKERS = {
    "claims": course_claims.claims_page,
    "status": course_pages.status_table,
    "chapters": course_pages.chapters_table,
    "start": course_pages.start,
    "hero": course_pages.hero,
    "downloads": course_pages.downloads,
    "totals": course_claims.totals,
    "map": course_map.graph,
    "costs": course_map.costs,
    "paths": course_map.paths,
    "plans": course_teaching.plans,
    "guides": course_teaching.guides,
    "quiz": course_quiz.page,
}
GENERATED = (
    *("index", "book/claims", "book/status"),
    *("book/usage", "book/map", "book/teachers"),
)
QUIZZES = "book/quiz/"
# A quote block that opens with one of these words in bold is shown as a box of that kind.
BOXES = {
    "Exercice": "exercise",
    "À retenir": "takeaway",
    "Attention": "caution",
    "Le document": "document",
    "Document": "document",
    "Erreur": "failure",
    "Autre erreur": "failure",
    "Solution": "solution",
    "Objectifs": "objectives",
}


def load_course(app: Sphinx) -> None:
    sys.path.insert(0, str(app.srcdir))  # `utils`, for the hash of a notebook's code
    options = app.config.html_theme_options
    app.course = course_data.load(  # type: ignore[attr-defined]
        Path(app.srcdir), options["repository_url"], options["repository_branch"]
    )


def always_fresh(app: Sphinx, env: BuildEnvironment, *_: object) -> list[str]:
    """These pages depend on every notebook and on the registries: read them at each build."""
    return [name for name in env.found_docs if is_generated(name)]


def is_generated(docname: str) -> bool:
    return docname in GENERATED or docname.startswith(QUIZZES)


def prepare_source(app: Sphinx, docname: str, source: list[str]) -> None:
    course = app.course  # type: ignore[attr-defined]
    chapter = course.chapter(docname.removeprefix("notebooks/"))
    if chapter and chapter.docname == docname:
        notebook = json.loads(source[0])
        app.env.temp_data["figure_alts"] = course_data.figure_alts(notebook)
        invitation = course_quiz.invitation(course, chapter)
        source[0] = json.dumps(
            course_pages.prepare(notebook, course, chapter, after=invitation)
        )
        app.env.note_dependency(str(course.root / "book/claims.yml"))
        return
    base = "../" * docname.count("/")

    def generate(match: re.Match[str]) -> str:
        name, *arguments = match[1].split()
        if name == "hero":
            write_picture(Path(app.outdir), course, *arguments)
        return MARKERS[name](course, base, *arguments)

    source[0] = re.sub(r"<!-- course: (.+?) -->", generate, source[0])


def write_picture(site: Path, course: course_data.Course, claim_id: str) -> None:
    """Write the landing page's picture, the figure that proves a claim, into the site."""
    figure = course_pages.proof_figure(course, claim_id)
    if figure:
        path = site / course_pages.HERO_IMAGE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(figure[0])


def describe_figures(app: Sphinx, doctree: nodes.document) -> None:
    """Carry the alternative texts of figures, which myst-nb drops, to the pages."""
    alts = app.env.temp_data.get("figure_alts", {})
    for image in doctree.findall(nodes.image):
        alt = alts.get(PurePosixPath(image["uri"]).stem)
        if alt:
            image["alt"] = typography(alt)


def mark_boxes(app: Sphinx, doctree: nodes.document) -> None:
    """Give known quote blocks and the verdicts' summary a class; drop empty table heads."""
    for quoted in doctree.findall(nodes.block_quote):
        bold = next(quoted.findall(nodes.strong), None)
        kind = next(
            (k for word, k in BOXES.items() if bold and bold.astext().startswith(word)),
            "",
        )
        if kind:
            quoted["classes"] += ["box", kind]
    for head in list(doctree.findall(nodes.thead)):
        if head.astext().startswith("Verdict"):
            head.parent.parent["classes"].append("verdict-summary")
        if not head.astext().strip():  # `| | |`: Markdown has no table without a head
            head.parent.remove(head)


def link_terms(app: Sphinx, doctree: nodes.document) -> None:
    """Link each term written ***so*** to its glossary entry; a missing entry is a warning."""
    docname = app.env.docname
    if not docname.startswith("notebooks/"):
        return
    entries = course_data.glossary(Path(app.srcdir) / "book/glossary.md")
    app.env.note_dependency(str(Path(app.srcdir) / "book/glossary.md"))
    for strong in list(doctree.findall(nodes.strong)):
        emphasis = strong.parent
        if (
            not isinstance(emphasis, nodes.emphasis)
            or emphasis.astext() != strong.astext()
        ):
            continue
        entry = entries.get(course_data.term_key(strong.astext()))
        if entry is None:
            logger.warning(
                "no entry in book/glossary.md for the term ***%s***",
                strong.astext(),
                location=docname,
            )
            continue
        link = addnodes.pending_xref(
            refdomain="std",
            reftype="term",
            reftarget=entry,
            refexplicit=True,
            refdoc=docname,
        )
        emphasis.replace_self(link)
        link += nodes.inline("", "", emphasis, classes=["term"])


def set_buttons(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Replace the theme's header buttons: French words, the .py as source, both downloads."""
    course = app.course  # type: ignore[attr-defined]
    chapter = course.chapter(page.removeprefix("notebooks/"))
    here = f"{course.repository}/blob/{course.branch}"
    buttons = []
    source = None
    if chapter and chapter.docname == page:
        out = course_pages.links(course, chapter)
        buttons.append(
            _link("Ouvrir dans Colab", out["colab"], "fas fa-rocket", "colab")
        )
        files = [
            _link(
                f"Notebook ({suffix})" if suffix == ".ipynb" else f"Script ({suffix})",
                context["pathto"](f"_sources/{page}{suffix}", 1),
                "fas fa-file-code",
                f"download{suffix.replace('.', '-')}",
            )
            for suffix in (".ipynb", ".py")
        ]
        printing = {
            "type": "javascript",
            "javascript": "window.print()",
            "text": "Imprimer ou PDF",
            "icon": "fas fa-print",
            "label": "print",
        }
        buttons.append(
            _group("Télécharger", [*files, printing], "fas fa-download", "downloads")
        )
        source = f"{page}.py"
    elif doctree is not None:
        source = app.env.doc2path(page, base=False)
    repository = [
        _link("Dépôt du cours", course.repository, "fab fa-github", "repository")
    ]
    if source:
        title = quote(f"{context['title']} : ", safe="")
        edit = here.replace("/blob/", "/edit/")
        repository += [
            _link("Voir la source", f"{here}/{source}", "fas fa-code", "source"),
            _link(
                "Proposer une modification",
                f"{edit}/{source}",
                "fas fa-pencil-alt",
                "edit",
            ),
            _link(
                "Signaler une erreur",
                f"{course.repository}/issues/new?title={title}",
                "fas fa-lightbulb",
                "issue",
            ),
        ]
    buttons.append(
        _group("Dépôt et erreurs", repository, "fab fa-github", "repository")
    )
    context["header_buttons"] = buttons


def _link(text: str, url: str, icon: str, label: str) -> dict[str, str]:
    return {"type": "link", "text": text, "url": url, "icon": icon, "label": label}


def _group(tooltip: str, buttons: list, icon: str, label: str) -> dict[str, Any]:
    return {
        "type": "group",
        "tooltip": tooltip,
        "buttons": buttons,
        "icon": icon,
        "label": label,
    }


def draw_formulas(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Ask for MathJax where formulas come from a generated table, in which Sphinx sees none."""
    if is_generated(page):
        equations = app.env.get_domain("math").data["has_equations"]
        equations[page] = r"\(" in context.get("body", "")


def add_filters(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    if page == "book/claims":
        app.add_js_file("claims.js", loading_method="defer")


def describe_page(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Say in the head what the page is about: search engines and shared links show it."""
    known = {chapter.docname: chapter.summary for chapter in app.course.chapters}
    said = known.get(page) or (first_paragraph(doctree) if doctree else "")
    if not said:
        return
    description = escape(typography(said))
    properties = {
        "title": escape(unescape(re.sub("<[^>]+>", "", context["title"]))),
        "description": description,
        "site_name": escape(app.config.html_title),
        "locale": "fr_FR",
        "type": "article",
    }
    tags = [f'<meta name="description" content="{description}">'] + [
        f'<meta property="og:{key}" content="{value}">'
        for key, value in properties.items()
    ]
    context["metatags"] = context.get("metatags", "") + "\n".join(tags)


def first_paragraph(doctree: nodes.document) -> str:
    """Return the first paragraph that holds a sentence, as text; "" where there is none."""
    paragraphs = (node.astext() for node in doctree.findall(nodes.paragraph))
    return next((" ".join(text.split()) for text in paragraphs if "." in text), "")


def load_figures_late(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Let a figure load when it is near, its place kept by its size in pixels."""
    files = {name: path for path, (_, name) in app.env.images.items()}

    def late(match: re.Match[str]) -> str:
        name = match[2]
        if name not in files:
            return match[0]
        width, height = png_size(Path(app.srcdir) / files[name])
        return f'{match[1]} loading="lazy" width="{width}" height="{height}"'

    context["body"] = re.sub(
        r'(<img [^>]*src="[^"]*_images/([^"/]+\.png)")', late, context.get("body", "")
    )


def png_size(path: Path) -> tuple[int, int]:
    """Return (width, height), which a PNG file holds in its bytes 16 to 24."""
    with path.open("rb") as file:
        head = file.read(24)
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def copy_scripts(app: Sphinx, failure: Exception | None) -> None:
    """Offer each chapter's script beside its notebook, which Sphinx copies to ``_sources``."""
    if failure or app.builder.name != "html":
        return
    for chapter in app.course.chapters:  # type: ignore[attr-defined]
        script = Path(app.srcdir) / f"{chapter.docname}.py"
        if chapter.docname in app.env.found_docs:
            shutil.copy(script, Path(app.outdir) / "_sources" / "notebooks")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", load_course)
    app.connect("env-get-outdated", always_fresh)
    app.connect("source-read", prepare_source)
    app.connect("doctree-read", describe_figures)
    app.connect("doctree-read", mark_boxes)
    app.connect("doctree-read", link_terms)
    app.connect("html-page-context", set_buttons, priority=600)
    app.connect("html-page-context", draw_formulas, priority=100)  # before Sphinx's 500
    app.connect("html-page-context", add_filters)
    app.connect("html-page-context", describe_page)
    app.connect("html-page-context", load_figures_late)
    app.connect("build-finished", copy_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
