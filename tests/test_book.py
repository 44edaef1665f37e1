"""The book: its builders on small inputs, then every page of the built site."""

import base64
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import re
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from html import unescape
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from bs4 import BeautifulSoup, Comment, Tag
from sphinx.errors import ExtensionError

from tests.book_site import ROOT, course, site

import course_book  # isort: skip  (tests.book_site puts book/_ext on the path)
import course_claims  # isort: skip
import course_data  # isort: skip
import course_french  # isort: skip
import course_offline  # isort: skip
import course_pages  # isort: skip

PNG = base64.b64encode(b"a picture").decode()
RUN = {
    "profile": "full",
    "scale": "gpu",
    "data": "real",
    "backend": "tensorflow",
    "device": "NVIDIA T4",
    "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"},
    "date": "2026-11-01T09:30:00+00:00",
    "duration_s": 432.4,
    "peak_memory_mb": 1910,
}
CLAIM = {
    "id": "siamese-margin",
    "document": "003",
    "chapter": "10_siamese",
    "quote": "la perte d'une paire <négative> s'annule à `margin`",
    "stated": 0.9075,
    "verdict": "confirmé",
    "note": "Au-delà de $m$, elle ne pousse plus.",
}
VERDICT = {
    "id": "siamese-margin",
    "measured": 0.908333,
    "verdict": "confirmé",
    "matches": True,
    "stored": True,
}


# --- The builders -------------------------------------------------------------------------------


def chapter(**changes):
    known = {
        "slug": "10_siamese",
        "title": "Réseaux siamois",
        "summary": "Apprendre une distance.",
        "documents": ("003",),
        "written": True,
        "run": RUN,
        "verdicts": {"siamese-margin": VERDICT},
    }
    return course_data.Chapter(**(known | changes))


def small_course(*chapters, claims=(CLAIM,)):
    return course_data.Course(
        root=ROOT,
        repository="https://github.com/owner/name",
        branch="main",
        chapters=chapters or (chapter(),),
        documents={"003": "Réseaux siamois et perte contrastive"},
        claims=claims,
    )


def notebook():
    figure = {
        "output_type": "display_data",
        "data": {"image/png": PNG, "text/plain": "une courbe"},
        "metadata": {"image/png": {"alt": "Une courbe qui s'annule à la marge."}},
    }
    verdict = {
        "output_type": "display_data",
        "data": {
            "text/markdown": ["> ✓ **Confirmé**"],
            course_data.VERDICT_MIME: VERDICT,
        },
        "metadata": {},
    }
    banner = {
        "output_type": "display_data",
        "data": {"text/markdown": "**Profil complet**", course_data.RUN_MIME: RUN},
        "metadata": {},
    }
    code = {"cell_type": "code", "execution_count": 1}
    solution = '# @title Solution de l\'exercice 1 {display-mode: "form"}\nprint(1)'
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"course": RUN, "kernelspec": {"name": "python3"}},
        "cells": [
            {
                "cell_type": "markdown",
                "metadata": {},
                "source": ["# Réseaux\n", "\n", "Texte."],
            },
            code | {"metadata": {}, "source": "banner()", "outputs": [banner]},
            code | {"metadata": {}, "source": "show()", "outputs": [figure, verdict]},
            code
            | {"metadata": {"tags": ["hide-cell"]}, "source": solution, "outputs": []},
        ],
    }


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (133504, "133\u202f504"),
        (0.908333, "0,9083"),
        (1e-7, "1,00\u00a0×\u00a010⁻⁷"),
        (2.0, "2"),
        (float("nan"), "NaN"),
        (True, "oui"),
        (None, "—"),
        ([1, 784], "1\u202f; 784"),
        ([-2, 1000.0], "\u22122\u202f; 1000"),
        ("a < b", "a &lt; b"),
    ],
)
def test_values_are_written_in_french(number, written):
    assert course_pages.value(number) == written


@pytest.mark.parametrize(
    "number", [133504, 1000, 9999.0, -12, 0.908333, -0.5, -2.2e-16, True]
)
def test_pages_and_verdicts_write_a_measure_alike(number):
    from utils.verdicts import french  # it imports Keras, which the build does without

    assert course_pages.value(number) == french(number)


def test_durations_dates_and_memory():
    assert [course_pages.duration(s) for s in (8.4, 432.4, 3780)] == [
        "8 s",
        "7 min 12 s",
        "1 h 03 min",
    ]
    assert course_pages.date("2026-11-01T09:30:00+00:00") == "1er novembre 2026"
    assert [course_pages.memory(m) for m in (812.3, 1910)] == ["812 Mo", "1,9 Go"]


def test_prose_keeps_code_and_mathematics_apart():
    html = course_pages.prose("l'écart `x : y` vaut : $a < b$ !")
    assert "l’écart" in html
    assert "<code>x : y</code> vaut\u00a0:" in html
    assert r"\(a &lt; b\)" in html
    assert html.endswith("\u202f!")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("« oui » : non ; si ?", "«\u00a0oui\u00a0»\u00a0: non\u202f; si\u202f?"),
        ("l'aire de l'", "l’aire de l’"),
        ("'a'", "'a'"),
        ("rapport 3:2", "rapport 3:2"),
        ("28 × 28 × 3, a × b", "28\u00a0×\u00a028\u00a0×\u00a03, a × b"),
        ("de 1 280 à 60\n000, 12 3456", "de 1\u202f280 à 60\u202f000, 12 3456"),
    ],
)
def test_typography(source, shown):
    assert course_french.typography(source) == shown


def test_terms_are_found_without_accents_capitals_or_plural(tmp_path):
    page = tmp_path / "glossary.md"
    page.write_text(
        "```{glossary}\n:sorted:\n\nRéseau siamois\n  Un réseau.\nPas\n  Un pas.\n```\n",
        encoding="utf8",
    )
    entries = course_data.glossary(page)
    assert entries[course_data.term_key("réseaux siamois")] == "Réseau siamois"
    assert set(entries.values()) == {"Réseau siamois", "Pas"}
    assert course_data.term_key("pas") != course_data.term_key("pa")


def test_provenance_says_how_the_run_was_made():
    html = unescape(course_pages.provenance_box(small_course(), chapter()))
    facts = "profil complet · données réelles · TensorFlow 2.21 · NVIDIA T4 · 1er novembre 2026"
    assert facts + " · 7 min 12 s · 1,9 Go" in html
    assert 'class="note' not in html
    assert "https://colab.research.google.com/github/owner/name/blob/main/" in html


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"run": None}, "pas encore été exécuté"),
        ({"stale": True}, "Le code a changé"),
        ({"run": RUN | {"profile": "quick"}}, "profil rapide"),
        ({"run": RUN | {"data": "synthetic"}}, "données de remplacement"),
        ({"run": RUN | {"scale": "cpu"}}, "à l’échelle d’un processeur"),
    ],
)
def test_provenance_warns_the_student(changes, words):
    said = course_pages.provenance_box(small_course(), chapter(**changes))
    assert words.lower() in said.lower()
    assert 'class="note' in said
    assert (
        words.lower()
        not in course_pages.provenance_box(small_course(), chapter()).lower()
    )


def test_code_that_changed_since_the_run_is_stale():
    executed = notebook()
    sources = [
        cell["source"] for cell in executed["cells"] if cell["cell_type"] == "code"
    ]
    from utils import provenance

    executed["metadata"]["course"] = RUN | {"code_hash": provenance.code_hash(sources)}
    assert not course_data.is_stale(executed)
    executed["cells"][2]["source"] = "show(2)"
    assert course_data.is_stale(executed)


def test_prepared_chapter_has_its_box_anchors_and_prompts():
    prepared = course_pages.prepare(notebook(), small_course(), chapter())
    title, banner, figure, solution = prepared["cells"]
    assert title["source"].startswith("# 10. Réseaux\n\n<aside")
    assert "course" not in prepared["metadata"]
    assert list(banner["outputs"][0]["data"]) == ["text/markdown"]
    verdict = figure["outputs"][1]["data"]["text/markdown"]
    assert 'id="verdict-siamese-margin"' in verdict
    assert 'href="../book/claims.html#registre-siamese-margin"' in verdict
    assert solution["source"] == "print(1)"
    assert (
        solution["metadata"]["mystnb"]["code_prompt_show"] == "Solution de l’exercice 1"
    )


def test_preparing_a_chapter_leaves_the_notebook_alone():
    untouched = notebook()
    course_pages.prepare(untouched, small_course(), chapter())
    assert untouched == notebook()


def test_alternative_texts_and_proofs_are_found():
    alt = "Une courbe qui s'annule à la marge."
    digest = hashlib.sha256(b"a picture").hexdigest()
    assert course_data.figure_alts(notebook()) == {digest: alt}
    assert course_data.figure_before(notebook(), "siamese-margin") == (
        b"a picture",
        alt,
    )
    assert course_data.figure_before(notebook(), "another") is None


def test_a_claim_shows_what_is_stated_measured_and_proved():
    row = course_claims._claim_row(CLAIM, VERDICT, chapter(), "../")
    assert "Annoncé\u00a0: <b>0,9075</b>" in row
    assert "Mesuré\u00a0: <b>0,9083</b> (profil complet)" in row
    assert "&lt;négative&gt; s’annule" in row
    assert 'href="../notebooks/10_siamese.html#verdict-siamese-margin"' in row
    assert ">✓</span> confirmé" in row


def test_a_claim_of_an_unwritten_chapter_breaks_nothing():
    unwritten = chapter(written=False, run=None, verdicts={})
    page = course_claims.claims_page(small_course(unwritten))
    assert "Chapitre à venir" in page
    assert ">…</span> à décider" in page
    assert "Voir la preuve" not in page
    with pytest.raises(ValueError, match="10_siamese"):
        course_claims.claims_page(small_course(chapter(slug="09_arcface")))


def test_a_claim_that_no_run_decides_gives_its_reason():
    claim = CLAIM | {
        "verdict": "non vérifiable ici",
        "reason": "Il faudrait un autre corpus.",
    }
    decided = small_course(chapter(verdicts={}), claims=(claim,))
    assert "Il faudrait un autre corpus." in course_claims.claims_page(decided)
    assert decided.counts(decided.chapters[0]) == Counter({"non vérifiable ici": 1})


def test_status_tells_written_from_planned():
    planned = chapter(slug="11_face_fairness", title="Visages", written=False, run=None)
    rows = BeautifulSoup(
        course_pages.status_table(small_course(chapter(), planned)), "html.parser"
    )
    first, second = rows.find("tbody").find_all("tr")
    assert "1er novembre 2026" in first.text
    assert "1 confirmé" in first.text
    assert "à venir" in second.text


BENCH = {
    "machine": "deux cœurs",
    "date": "2026-11-26T22:00:00+00:00",
    "notebooks": {
        "10_siamese": {"seconds": 21.3, "memory_mb": 900, "twice": "identical"}
    },
    "suite_seconds": 580,
}


def status_cell(bench):
    changed = dataclasses.replace(small_course(), bench=bench)
    page = BeautifulSoup(course_pages.status_table(changed), "html.parser")
    return page.find("tbody").find_all("td")[3].get_text(" ")


def test_status_tells_what_a_quick_run_costs_and_whether_it_repeats():
    assert "21 s 900 Mo" in status_cell(BENCH)
    assert "nombres identiques" in status_cell(BENCH)
    spread = {"spread": 1e-6, "where": "la perte"}
    moved = {"notebooks": {"10_siamese": {"twice": spread}}}
    assert "écart 1\u00a0×\u00a010⁻⁶ (la perte)" in status_cell(moved)
    assert course_pages.power(0.25) == "0,25"
    note = course_pages.bench_note(BENCH)
    assert "le 26 novembre 2026" in note
    assert "9 min 40 s" in note


@pytest.mark.parametrize(
    "bench",
    [{}, {"notebooks": {}}, {"notebooks": {"10_siamese": {"twice": None}}}],
)
def test_what_was_not_measured_is_a_dash(bench):
    assert status_cell(bench) == "—"
    assert course_pages.bench_note({"machine": "deux cœurs"}) == ""


def test_totals_link_to_the_claims_they_count():
    other = CLAIM | {
        "id": "other",
        "document": "004",
        "verdict": "réfuté",
        "reason": ".",
    }
    course = small_course(claims=(CLAIM, other))
    course.documents["004"] = "Réseaux"
    rows = BeautifulSoup(course_claims.totals(course), "html.parser").find_all("li")
    assert [len(row.find_all("a")) for row in rows] == [2, 1, 1]
    link = rows[2].a
    assert link["href"] == "book/claims.html?document=004&verdict=refuted"
    assert "1 réfuté" in link.text
    assert course_claims.totals(small_course(claims=())) == ""


def test_inline_markdown_is_french_html():
    html = course_pages.inline("l'`a < b` vaut *$x_1$* : **non** <b> [ici](x.html) ?")
    assert html.startswith("l’<code>a &lt; b</code> vaut <em><span")
    assert r"\(x_1\)" in html
    assert "\u00a0: <strong>non</strong> &lt;b&gt;" in html
    assert html.endswith('<a href="x.html">ici</a>\u202f?')


def test_a_registry_that_cannot_be_read_is_named(tmp_path):
    bench = tmp_path / "bench.json"
    assert course_data._optional(bench, json.loads) == {}
    bench.write_text('{"spread": 1e-06}', encoding="utf8")
    assert course_data._optional(bench, json.loads) == {"spread": 1e-6}
    (tmp_path / "01_convolution.yml").write_text("a: [b", encoding="utf8")
    with pytest.raises(ValueError, match=r"01_convolution\.yml"):
        course_data._by_slug(tmp_path)


def test_the_builders_do_not_import_keras():
    code = (
        "import pathlib, sys; sys.path[:0] = ['book/_ext', '.']\n"
        "import course_book, course_data\n"
        "course_data.load(pathlib.Path('.').resolve(), 'https://github.com/owner/name')\n"
        "course_data.is_stale({'metadata': {'course': {'code_hash': ''}}, 'cells': []})\n"
        "sys.exit('the build imports Keras' if 'keras' in sys.modules else 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# --- MathJax ------------------------------------------------------------------------------------


def package(**files):
    """Return the bytes of an npm tarball."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def registry():
    """A registry on this machine; what it answers is `registry.answer`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked += 1
            self.send_response(200 if self.server.answer else 404)
            self.end_headers()
            self.wfile.write(self.server.answer)

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.answer, server.asked = b"", 0
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_mathjax_is_checked_installed_whole_and_kept(registry, tmp_path, monkeypatch):
    files = {
        "es5/tex-chtml.js": b"mathjax",
        "LICENSE": b"Apache",
        "es5/other.js": b"no",
    }
    registry.answer = package(**files)
    digest = base64.b64encode(hashlib.sha512(registry.answer).digest()).decode()
    monkeypatch.setattr(course_offline, "INTEGRITY", f"sha512-{digest}")
    target = course_offline.install(tmp_path, registry.url)
    kept = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.*"))
    assert kept == ["es5/tex-chtml.js"]
    assert [path.name for path in tmp_path.iterdir()] == [course_offline.FOLDER]
    course_offline.install(
        tmp_path, "http://127.0.0.1:1"
    )  # already here: nothing is asked
    assert registry.asked == 1


@pytest.mark.parametrize("answer", [b"", b"not MathJax"])
def test_mathjax_that_cannot_be_had_is_said_in_french(registry, tmp_path, answer):
    registry.answer = answer
    with pytest.raises(ExtensionError, match=r"MathJax.*NPM_CONFIG_REGISTRY"):
        course_offline.install(tmp_path, registry.url)
    assert list(tmp_path.iterdir()) == []


# --- The sources --------------------------------------------------------------------------------


def test_every_notebook_is_in_the_book_and_in_the_list():
    toc = (ROOT / "_toc.yml").read_text(encoding="utf8")
    listed = {found.slug for found in course().chapters}
    for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"):
        assert f"- file: notebooks/{path.stem}\n" in toc, (
            f"{path.stem} is not in _toc.yml"
        )
        assert path.stem in listed, f"{path.stem} is not in book/chapters.yml"


def test_every_term_has_its_glossary_entry():
    entries = course_data.glossary(ROOT / "book/glossary.md")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf8"))["cells"]:
            if cell["cell_type"] == "markdown":
                for term in re.findall(
                    r"\*\*\*([^*]+)\*\*\*", course_data.text(cell["source"])
                ):
                    assert course_data.term_key(term) in entries, f"{path.stem}: {term}"


# --- The built site -----------------------------------------------------------------------------


# Two thirds of a chapter's elements are the coloured words of its code: plain text for these tests.
WORD_OF_CODE = re.compile(r'<span class="[a-z0-9]{1,3}">([^<]*)</span>')


@functools.cache
def pages() -> dict[str, BeautifulSoup]:
    """Return {path in the site: parsed page}."""
    found = sorted(site().rglob("*.html"))
    found = [
        path
        for path in found
        if "_static" not in path.parts and "_sources" not in path.parts
    ]
    assert len(found) >= 7
    return {
        path.relative_to(site()).as_posix(): BeautifulSoup(
            WORD_OF_CODE.sub(r"\1", path.read_text(encoding="utf8")), "html.parser"
        )
        for path in found
    }


def written():
    return [found for found in course().chapters if found.written]


def is_elsewhere(address):
    return bool(re.match(r"(?:[a-z]+:)?//", address.strip(), re.IGNORECASE))


def loaded(page):
    """Yield the addresses that a browser fetches to show a page."""
    for tag in page.find_all(
        ["script", "img", "iframe", "source", "video", "audio", "embed"]
    ):
        yield from (tag[name] for name in ("src", "poster") if tag.get(name))
        yield from (
            part.split()[0] for part in tag.get("srcset", "").split(",") if part.strip()
        )
    for tag in page.find_all("link"):
        if set(tag.get("rel", [])) - {
            "canonical",
            "next",
            "prev",
            "search",
            "index",
            "author",
        }:
            yield tag["href"]
    for tag in page.find_all("object"):
        yield tag.get("data", "")
    for css in [tag.text for tag in page.find_all("style")] + [
        tag["style"] for tag in page.find_all(style=True)
    ]:
        yield from style_addresses(css)


def style_addresses(css):
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    for found in re.finditer(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""", css):
        yield found[1] or found[2]


def test_nothing_is_loaded_from_another_host():
    for name, page in pages().items():
        for address in loaded(page):
            assert not is_elsewhere(address), f"{name} loads {address}"
        for script in page.find_all("script", src=False):
            assert not re.search(r"unpkg|jsdelivr|cdnjs|googleapis", script.text), (
                f"{name}: CDN"
            )
    for path in site().rglob("*.css"):
        for address in style_addresses(path.read_text(encoding="utf8")):
            assert not is_elsewhere(address), f"{path.name} loads {address}"


def test_mathjax_comes_from_the_site():
    page = pages()["notebooks/10_siamese.html"]
    scripts = [tag["src"].split("?")[0] for tag in page.find_all("script", src=True)]
    (mathjax,) = [src for src in scripts if "mathjax" in src.lower()]
    assert (site() / "notebooks" / mathjax).is_file()
    fonts = list((site() / "_static").rglob("MathJax_Main-Regular.woff"))
    assert len(fonts) == 1


def test_the_site_is_in_french():
    for name, page in pages().items():
        assert page.html["lang"] == "fr", name


ENGLISH = re.compile(
    r"\b(search|contents|next|previous|copy|copied|toggle|show|hide|click|launch|download|print to"
    r"|repository|open issue|suggest|edit|made by|by the|last updated|light|dark|system settings"
    r"|color mode|back to top|skip to|section navigation|site navigation|on this page|home|index"
    r"|permalink|link to|read more|version warning|announcement|created using|built with|logo"
    r"|main (menu|navigation|content)|menu|close|page not found|error)\b",
    re.IGNORECASE,
)
LABELS = ("title", "aria-label", "placeholder", "alt", "data-bs-title", "value")


def interface(page):
    """Yield the words of the interface: all but the article's text, and every label."""
    for tag in page.find_all(True):
        for name in LABELS:
            if tag.name not in ("li", "meta") and tag.get(name):
                yield tag[name]
    inside = page.find_all(["summary", "caption", "figcaption"])
    yield from (tag.get_text(" ", strip=True) for tag in inside)
    yield from texts_outside_the_article(page.body)


def texts_outside_the_article(tag):
    for child in tag.children:
        if not isinstance(child, Tag):
            if not isinstance(child, Comment):
                yield child.strip()
        elif child.name not in ("article", "script", "style", "noscript"):
            yield from texts_outside_the_article(child)


def test_no_word_of_the_interface_is_english():
    for name, page in pages().items():
        for words in interface(page):
            assert not ENGLISH.search(words), f"{name}: {words!r}"


def test_images_are_described():
    for name, page in pages().items():
        for image in page.find_all("img"):
            if "logo__image" in image.get("class", []):
                continue
            alt = image.get("alt", "")
            assert len(alt) >= 20, f"{name}: {image.get('src')} has the alt {alt!r}"
            assert not re.search(r"[0-9a-f]{32}", alt), f"{name}: a hash as alt"


def test_alternative_texts_of_figures_reach_the_pages():
    for found in written():
        alts = course_data.figure_alts(course().notebook(found))
        shown = [
            img.get("alt") for img in pages()[f"{found.docname}.html"].find_all("img")
        ]
        for alt in alts.values():
            assert course_french.typography(alt) in shown, f"{found.slug}: {alt}"


def repository_path(address):
    """Return the file of this repository that an address of GitHub or Colab names."""
    repository = course().repository
    if address.startswith("https://colab.research.google.com/github/"):
        address = "https://github.com/" + address.split("/github/", 1)[1]
    match = re.fullmatch(
        rf"{re.escape(repository)}/(?:blob|edit)/{course().branch}/(.+)", address
    )
    assert match, f"{address} is not in {repository}"
    return ROOT / unquote(match[1])


def button(page, label):
    found = page.find(class_="article-header-buttons").select(f".btn-{label}")
    assert len(found) == 1, f"{len(found)} buttons {label}"
    return found[0]["href"]


def test_chapters_lead_to_colab_downloads_source_and_issues():
    for found in written():
        page = pages()[f"{found.docname}.html"]
        colab = button(page, "colab")
        assert repository_path(colab) == ROOT / f"{found.docname}.ipynb"
        assert "colab.research.google.com" in colab
        for label in ("source", "edit"):
            path = repository_path(button(page, label))
            assert path == ROOT / f"{found.docname}.py"
            assert path.is_file()
        assert repository_path(colab).is_file()
        for suffix in (".ipynb", ".py"):
            target = site() / "notebooks" / button(page, f"download-{suffix[1:]}")
            assert (
                target.read_bytes() == (ROOT / f"{found.docname}{suffix}").read_bytes()
            )


def test_every_page_leads_to_its_source_and_to_issues():
    for name, page in pages().items():
        assert button(page, "repository") == course().repository
        if name == "search.html":
            continue
        assert button(page, "issue").startswith(
            f"{course().repository}/issues/new?title="
        )
        assert repository_path(button(page, "edit")).is_file(), name


def test_provenance_box_is_under_each_title():
    for found in written():
        article = pages()[f"{found.docname}.html"].find("article")
        after = article.find("h1").find_next_sibling()
        assert "provenance" in after.get("class", []), f"{found.slug}: {after.name}"
        if found.run:
            assert course_pages.date(found.run["date"]) in after.text


@functools.cache
def shown_verdicts(path):
    """Return {claim id: its line} of a page."""
    lines = pages()[path].select("[id^=verdict-]")
    return {line["id"].removeprefix("verdict-"): line for line in lines}


def test_every_claim_is_listed_with_links_both_ways():
    page = pages()["book/claims.html"]
    rows = page.select("table.claims tbody tr")
    assert [row["id"] for row in rows] == [
        f"registre-{claim['id']}"
        for claim in sorted(
            course().claims, key=lambda claim: (claim["document"], claim["chapter"])
        )
    ]
    for row, claim in zip(
        rows,
        sorted(course().claims, key=lambda c: (c["document"], c["chapter"])),
        strict=True,
    ):
        found = course().verdict(claim)
        proofs = [a["href"] for a in row.find_all("a") if "#verdict-" in a["href"]]
        assert course_pages.badge(course_data.shown_verdict(claim, found)) in str(row)
        assert len(proofs) == (1 if found else 0), claim["id"]
        if found:
            shown = shown_verdicts(f"notebooks/{claim['chapter']}.html")[claim["id"]]
            back = shown.find("a", href=re.compile("claims.html#"))
            assert back["href"].endswith(f"#registre-{claim['id']}")


def test_state_of_the_course_lists_every_chapter():
    rows = pages()["book/status.html"].select("table.status tbody tr")
    assert len(rows) == len(course().chapters) >= 11
    for row, found in zip(rows, course().chapters, strict=True):
        assert row.td.text == f"{found.number}. {course_french.typography(found.title)}"
        assert ("à venir" in row.text) == (not found.written)


def test_figures_of_chapters_load_late_and_keep_their_place():
    for found in written():
        figures = pages()[f"{found.docname}.html"].select("article img[src$='.png']")
        assert figures, found.slug
        for figure in figures:
            path = (site() / "notebooks" / figure["src"]).resolve()
            size = course_book.png_size(path)
            assert figure["loading"] == "lazy", figure["src"]
            assert (int(figure["width"]), int(figure["height"])) == size


def test_pages_say_what_they_are_about():
    said = {
        path: page.select_one("meta[name=description]")
        for path, page in pages().items()
        if path != "search.html"
    }
    assert [path for path, tag in said.items() if tag is None] == []
    texts = [tag["content"] for tag in said.values()]
    assert min(map(len, texts)) > 20
    assert len(set(texts)) == len(texts), "two pages say the same"
    for found in written():
        summary = course_french.typography(found.summary)
        assert said[f"{found.docname}.html"]["content"] == summary


def test_no_page_is_heavy():
    sizes = {path.name: path.stat().st_size for path in site().rglob("*.html")}
    assert {name for name, size in sizes.items() if size > 2_000_000} == set()


def test_landing_page_shows_chapters_picture_and_where_to_start():
    page = pages()["index.html"]
    assert len(page.select("ol.chapters > li")) == len(course().chapters)
    assert page.select_one(".ways a")["href"] == f"{written()[0].docname}.html"
    picture = page.select_one(".hero img")
    assert picture, (
        "the statement of index.md (course: hero) has no figure or no verdict"
    )
    assert (site() / picture["src"]).read_bytes().startswith(b"\x89PNG")


def test_every_chapter_leads_to_its_quiz_and_back():
    for found in written():
        chapter_page = pages()[f"{found.docname}.html"]
        quiz = pages()[f"book/quiz/{found.slug}.html"]
        questions = course().quizzes.get(found.slug, [])
        links = chapter_page.select(".quiz-invitation a")
        assert [a["href"] for a in links] == (
            [f"../book/quiz/{found.slug}.html"] if questions else []
        )
        back = [a["href"].split("#")[0] for a in quiz.article.find_all("a", href=True)]
        assert f"../../{found.docname}.html" in back
        assert len(quiz.select(".quiz")) == len(questions)
        for question in questions:
            title = course_french.typography(question["see"].replace("`", ""))
            assert (
                any(
                    a["href"].startswith(f"../../{found.docname}.html#")
                    for a in quiz.article.find_all("a", href=True)
                    if a.text == title
                )
                or "$" in title
            ), f"{found.slug}: no link to {title!r}"


def test_map_paths_and_guides_are_on_their_pages():
    plan, teachers = pages()["book/map.html"], pages()["book/teachers.html"]
    assert len(plan.select(".course-map li")) == len(course().chapters)
    assert len(plan.select("table.costs tbody tr")) == len(written())
    guides = teachers.select("details.guide")
    assert len(guides) == len(written())
    for guide, found in zip(guides, written(), strict=True):
        titles = course_data.exercises(course().notebook(found))
        given = course().teaching.get(found.slug, {}).get("exercises", [])
        shown = [b.text for b in guide.select("table.exercises td:first-child b")]
        assert shown == [
            BeautifulSoup(course_pages.inline(title), "html.parser").text
            for title in titles[: len(given)]
        ]


def test_glossary_terms_are_linked_from_the_chapters():
    for found in written():
        source = "".join(
            course_data.text(cell["source"])
            for cell in course().notebook(found)["cells"]
            if cell["cell_type"] == "markdown"
        )
        links = pages()[f"{found.docname}.html"].select(
            'a[href*="glossary.html#term-"]'
        )
        assert len(links) == len(re.findall(r"\*\*\*[^*]+\*\*\*", source))


def test_internal_links_and_anchors_resolve():
    ids = {
        name: {tag["id"] for tag in page.find_all(id=True)}
        for name, page in pages().items()
    }
    for name, page in pages().items():
        assert len(ids[name]) == len(page.find_all(id=True)), (
            f"{name}: an id is used twice"
        )
        for tag, attribute in itertools.chain(
            zip(page.find_all(href=True), itertools.repeat("href")),
            zip(page.find_all(src=True), itertools.repeat("src")),
        ):
            address, anchor = urldefrag(tag[attribute])
            if urlparse(address).scheme or is_elsewhere(address):
                continue
            path = unquote(address.split("?")[0])
            target = (site() / name).parent / path if path else site() / name
            assert target.is_file(), f"{name}: {tag[attribute]} does not exist"
            key = target.resolve().relative_to(site().resolve()).as_posix()
            if anchor and key in ids:
                assert unquote(anchor) in ids[key], (
                    f"{name}: {tag[attribute]} has no such anchor"
                )


def test_thebe_is_gone():
    for name, page in pages().items():
        for script in page.find_all("script"):
            assert "thebe" not in str(script).lower(), name
