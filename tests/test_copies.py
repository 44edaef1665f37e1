"""The copies to take away (`tools/offline.py`): a zip of the site, a PDF of its pages."""

import re
import zipfile
from pathlib import PurePosixPath

import pytest
from pypdf import PdfReader

from tests.book_site import site
from tests.test_site import CHROMIUM
from tools import offline

printing = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no browser prints the PDF here"),
]

TOC = {
    "root": "index",
    "parts": [
        {
            "chapters": [
                {"file": "book/usage"},
                {"file": "notebooks/01", "sections": [{"file": "book/quiz/01"}]},
            ]
        },
        {"chapters": [{"file": "book/glossary"}]},
    ],
}
PAGE = """<!doctype html><html lang="fr"><meta charset="utf-8">
<title>{title} — Vision profonde</title>
<body><article><h1>{title}</h1>{body}</article></body></html>"""


@pytest.fixture(scope="module", autouse=True)
def browser_of_the_tests():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_CHROMIUM", CHROMIUM)
        yield


def small_site(folder, **bodies):
    for name, body in bodies.items():
        (folder / f"{name}.html").write_text(
            PAGE.format(title=name.capitalize(), body=body), encoding="utf8"
        )
    return folder


def test_pages_follow_the_table_of_contents():
    expected = ["index", "book/usage", "notebooks/01", "book/quiz/01", "book/glossary"]
    assert offline.pages(TOC) == expected


def flat(outline):
    """The bookmarks of a list and of the lists inside it, in order."""
    for item in outline:
        if isinstance(item, list):
            yield from flat(item)
        else:
            yield item


def destination(reader, link):
    """The number of the page where a link of a PDF leads."""
    page = link["/A"]["/D"][0].get_object()
    return next(i for i, other in enumerate(reader.pages) if other == page)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two pages that name one another, the second two sheets long."""
    folder = small_site(
        tmp_path_factory.mktemp("site"),
        index='<a href="second.html?filtre=1#fin">suite</a> <a href="https://a.org/">x</a>',
        second='<h2 id="debut">Début</h2><a href="#fin">plus bas</a>'
        '<div style="height: 400mm"></div><h2 id="fin">Fin</h2>',
    )
    path = folder / "all.pdf"
    offline.write_pdf(folder, ["index", "second"], path)
    return PdfReader(path)


class TestPdf:
    pytestmark = printing

    def test_has_a_bookmark_a_page_and_its_headings_below(self, made):
        top = [item.title for item in made.outline if not isinstance(item, list)]
        below = made.outline[-1]  # a list holds what is below the bookmark before it
        assert top == ["Index", "Second"]
        assert [item.title for item in flat(below)] == ["Second", "Début", "Fin"]

    def test_links_between_pages_lead_to_the_heading_inside_the_document(self, made):
        leads = [
            destination(made, link)
            for link in offline.links(made.pages[0])
            if link["/A"]["/S"] == "/GoTo"
        ]
        assert made.get_num_pages() == 3
        assert leads == [2]

    def test_other_links_are_kept(self, made):
        links = list(offline.links(made.pages[0]))
        assert "https://a.org/" in [link["/A"].get("/URI") for link in links]

    @pytest.mark.parametrize(
        ("body", "fault"),
        [
            ("\U0010fffd", "glyph"),
            (r"soit \(x^2\)", "1 left as text"),
            ('<a href="nowhere.html">x</a>', "leads nowhere"),
        ],
    )
    def test_a_fault_stops_and_leaves_nothing(self, tmp_path, body, fault):
        path = small_site(tmp_path, index=body) / "all.pdf"
        with pytest.raises(SystemExit, match=fault):
            offline.write_pdf(tmp_path, ["index"], path)
        assert not path.exists()

    def test_a_formula_that_is_not_drawn_stops(self, tmp_path):
        small_site(tmp_path, index='<span class="math">x</span>')
        with pytest.raises(SystemExit, match="1 formulas, 0 drawn"):
            offline.write_pdf(tmp_path, ["index"], tmp_path / "all.pdf")

    def test_landing_page_is_right_but_for_links_to_pages_left_out(self, tmp_path):
        with pytest.raises(SystemExit) as stop:
            offline.write_pdf(site(), ["index"], tmp_path / "all.pdf")
        faults = str(stop.value).splitlines()[1:]
        assert [
            fault for fault in faults if "leads nowhere (course:" not in fault
        ] == []


def test_no_browser_is_said_in_french(monkeypatch):
    monkeypatch.delenv("COURSE_CHROMIUM", raising=False)
    monkeypatch.setattr(offline.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="Il faut Chromium ou Chrome"):
        offline.browser_path()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("zip") / "site.zip"
    offline.write_zip(site(), path)
    with zipfile.ZipFile(path) as opened:
        yield opened


class TestZip:
    def test_holds_every_file_that_its_pages_name(self, archive):
        names = set(archive.namelist())
        copies = {f"{offline.NAME}/{offline.NAME}.{kind}" for kind in ("pdf", "zip")}
        lost = set()
        pages = [name for name in names if name.endswith(".html")]
        for name in (page for page in pages if "/_static/" not in page):
            page = archive.read(name).decode("utf8")
            for address in re.findall(r'(?:href|src)="([^"#?:]+)[#?]?[^":]*"', page):
                parts = []
                for part in (PurePosixPath(name).parent / address).parts:
                    parts = parts[:-1] if part == ".." else [*parts, part]
                lost |= {"/".join(parts)} - names - copies
        assert lost == set()

    def test_is_the_same_file_twice(self, tmp_path):
        small_site(tmp_path, index="a", second="b")
        offline.write_zip(tmp_path, tmp_path / "one.zip")
        first = (tmp_path / "one.zip").read_bytes()
        (tmp_path / "index.html").touch()
        offline.write_zip(tmp_path, tmp_path / "one.zip")
        assert (tmp_path / "one.zip").read_bytes() == first
