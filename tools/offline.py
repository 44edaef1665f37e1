"""The site to take away: `make offline` builds it, then one zip and one PDF of it, and checks both.

Both lie in the site, where its page « Utiliser le cours » links to them. The PDF is what a browser
(Chromium or Chrome) prints, page after page, with solutions unfolded; links between pages lead
inside the document.
"""

import functools
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin

import yaml
from playwright.sync_api import sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    FloatObject,
    NameObject,
    NullObject,
    TextStringObject,
)

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
NAME = "vision-profonde"
BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
# Chromium names a destination only where a link of the same page leads to it: one for each anchor
# that a link of any page may name, under the last line.
PREPARE = """() => {
  document.title = document.title.replace(" — Vision profonde", "");
  document.querySelector("#jb-print-toc")?.remove();  // the bookmarks serve
  document.querySelectorAll("details").forEach(part => { part.open = true; });
  document.querySelectorAll("img[loading]").forEach(image => { image.loading = "eager"; });
  const anchors = document.createElement("p");
  anchors.style = "font-size: 1px; line-height: 1px; color: transparent; margin: 0";
  for (const target of document.querySelectorAll("article [id]")) {
    if (target.closest("mjx-container, svg, .explorer")) continue;
    const link = document.createElement("a");
    link.href = "#" + target.id;
    link.textContent = ".";
    link.style.color = "transparent";
    anchors.append(link);
  }
  document.querySelector("article").append(anchors);
  return window.MathJax?.startup.promise.then(() => true);
}"""
# Formulas written, drawn, in error; and those that MathJax did not see, outside code.
FORMULAS = r"""() => {
  const article = document.querySelector("article") || document.body;
  const texts = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  let unseen = 0;
  while (texts.nextNode()) {
    const raw = /\\\(|\\\[|\\begin\{|\$\$|\ufffd/.test(texts.currentNode.data);
    unseen += raw && !texts.currentNode.parentElement.closest("pre, code, script, mjx-container");
  }
  const count = selector => article.querySelectorAll(selector).length;
  return [count(".math"), count("mjx-container"), count("mjx-merror"), unseen];
}"""
FOOTER = """<div style="width: 100%; font: 8px sans-serif; color: #555; margin: 0 14mm;
display: flex; justify-content: space-between"><span>Vision profonde</span><span class="title">
</span><span><span class="pageNumber"></span> / <span class="totalPages"></span></span></div>"""


def browser_path():
    """Return the browser that prints; stop with the remedy, in French, where there is none."""
    path = os.environ.get("COURSE_CHROMIUM") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )
    if path is None:
        sys.exit(
            "Il faut Chromium ou Chrome pour fabriquer le PDF : installez-le (Debian et Ubuntu : "
            "sudo apt install chromium), ou donnez son chemin dans COURSE_CHROMIUM."
        )
    return path


def pages(toc):
    """Return the pages' names in reading order, from the table of contents."""
    chapters = [entry for part in toc["parts"] for entry in part["chapters"]]
    nested = [
        [entry["file"], *(child["file"] for child in entry.get("sections", []))]
        for entry in chapters
    ]
    return [toc["root"], *(name for names in nested for name in names)]


def serve(folder):
    """Serve a folder on a port of this machine; return (server, address)."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}/"


def printed(tab, address):
    """Print one page; return its bytes. Stop where a formula was not drawn."""
    tab.goto(address)
    tab.evaluate(PREPARE)
    tab.wait_for_load_state("networkidle")
    written, drawn, wrong, unseen = tab.evaluate(FORMULAS)
    if written != drawn or wrong or unseen:
        raise SystemExit(
            f"{address}: {written} formulas, {drawn} drawn, {wrong} in error, {unseen} left as text"
        )
    return tab.pdf(
        format="A4",
        scale=0.7,  # eighty-eight characters of code hold on a line
        print_background=True,
        outline=True,
        tagged=True,
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=FOOTER,
        margin={"top": "14mm", "bottom": "16mm", "left": "14mm", "right": "14mm"},
    )


def internal(link, page, address):
    """Return where a link annotation leads as « page#anchor », None when it leaves the site.

    A link of the page itself is a /Dest name; one to another page is an address of the server.
    """
    if "/Dest" in link:
        return f"{page}#{unquote(str(link['/Dest']).lstrip('/'))}"
    uri = link.get("/A", {}).get("/URI", "")
    if not uri.startswith(address):
        return None
    path, _, anchor = uri.removeprefix(address).partition("#")
    path = path.partition("?")[0]  # a filter of the page, which paper does not have
    return f"{path.removesuffix('.html') or 'index'}#{unquote(anchor)}"


def links(page):
    """Yield the link annotations of a page of a PDF."""
    for reference in page.get("/Annots", []):
        annotation = reference.get_object()
        if annotation.get("/Subtype") == "/Link":
            yield annotation


def join(printouts, address):
    """Return one PdfWriter from {page: PDF bytes}: bookmarks, and links that stay inside."""
    writer, starts, targets = PdfWriter(), {}, {}
    for name, content in printouts.items():
        reader = PdfReader(io.BytesIO(content))
        starts[name] = len(writer.pages)
        for target, place in reader.named_destinations.items():
            number = reader.get_destination_page_number(place)
            key = f"{name}#{unquote(target.lstrip('/'))}"
            targets[key] = starts[name] + number, float(place.top or 0)
        for page in reader.pages:
            for link in links(page):
                to = internal(link, name, address)
                if to:
                    link.pop("/Dest", None)
                    link[NameObject("/A")] = uri_action(f"course:{to}")
        writer.append(reader, import_outline=False)
        top = writer.add_outline_item(
            title=reader.metadata.title, page_number=starts[name]
        )
        add_bookmarks(writer, reader, reader.outline, starts[name], top)
    for page in writer.pages:
        for link in links(page):
            uri = link.get("/A", {}).get("/URI", "")
            if uri.startswith("course:"):
                to = uri.removeprefix("course:")
                name = to.partition("#")[0]
                if to not in targets and name not in starts:
                    continue  # a file of the site, not one of its pages: `check` names it
                number, height = targets.get(to, (starts.get(name), None))
                link[NameObject("/A")] = go_to(writer.pages[number], height)
    writer.add_metadata(
        {"/Title": "Vision profonde", "/Author": "les auteurs du cours"}
    )
    writer.root_object[NameObject("/Lang")] = TextStringObject("fr")
    return writer


def uri_action(uri):
    return DictionaryObject(
        {
            NameObject("/S"): NameObject("/URI"),
            NameObject("/URI"): TextStringObject(uri),
        }
    )


def go_to(page, height):
    where = ArrayObject(
        [
            page.indirect_reference,
            NameObject("/XYZ"),
            NullObject(),
            NullObject() if height is None else FloatObject(height),
            NullObject(),
        ]
    )
    return DictionaryObject(
        {NameObject("/S"): NameObject("/GoTo"), NameObject("/D"): where}
    )


def add_bookmarks(writer, reader, items, start, parent):
    """Copy bookmarks under another; a list holds the children of the one before it."""
    last = parent
    for item in items:
        if isinstance(item, list):
            add_bookmarks(writer, reader, item, start, last)
        else:
            number = reader.get_destination_page_number(item)
            last = writer.add_outline_item(
                title=item.title, page_number=start + number, parent=parent
            )


def missing_glyphs(page):
    """Count the characters of a page drawn with glyph 0, the empty box of its font."""
    fonts = page["/Resources"].get("/Font", {})
    wide = {
        name.encode()
        for name, font in fonts.items()
        if font.get_object().get("/Subtype") == "/Type0"
    }
    font, count = b"", 0
    for name, text in re.findall(
        rb"(/\w+) [\d.]+ Tf|<([0-9A-Fa-f\s]+)>", page.get_contents().get_data()
    ):
        if name:
            font = name
        elif font in wide:
            codes = re.sub(rb"\s", b"", text)
            count += sum(codes[i : i + 4] == b"0000" for i in range(0, len(codes), 4))
    return count


def check(path, expected):
    """Return what is wrong with a PDF of the pages `expected`, as sentences; [] if it is right."""
    reader = PdfReader(path)
    faults = []
    top = [item for item in reader.outline if not isinstance(item, list)]
    if len(top) != len(expected):
        faults.append(f"{len(top)} bookmarks for {len(expected)} pages of the site")
    if len(reader.pages) < len(expected):
        faults.append(f"{len(reader.pages)} pages for {len(expected)} of the site")
    for number, page in enumerate(reader.pages, 1):
        if missing_glyphs(page):
            faults.append(f"page {number}: a character without glyph")
        for link in links(page):
            uri = link.get("/A", {}).get("/URI", "")
            if uri.startswith(("course:", "http://127.0.0.1", "file:")):
                faults.append(f"page {number}: a link leads nowhere ({uri})")
    return faults


def write_pdf(site, names, path):
    """Print the pages `names` of a built site into one PDF; return the number of its pages."""
    server, address = serve(site)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=browser_path(), args=["--no-sandbox", "--disable-gpu"]
            )
            tab = browser.new_page(color_scheme="light")
            tab.emulate_media(media="print")
            printouts = {
                name: printed(tab, urljoin(address, f"{name}.html")) for name in names
            }
            browser.close()
    finally:
        server.shutdown()
    writer = join(printouts, address)
    writer.compress_identical_objects(remove_duplicates=True, remove_unreferenced=True)
    partial = path.with_suffix(".part")
    writer.write(partial)
    faults = check(partial, names)
    if faults:
        raise SystemExit("\n".join([f"{path.name} is not right:", *faults]))
    partial.replace(path)
    return len(writer.pages)


def write_zip(site, path, leave=()):
    """Pack a built site under one folder, in a fixed order and with fixed dates."""
    partial = path.with_suffix(".part")
    with zipfile.ZipFile(
        partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9
    ) as archive:
        for file in sorted(site.rglob("*")):
            if file.is_file() and file not in (path, partial, *leave):
                entry = zipfile.ZipInfo(f"{NAME}/{file.relative_to(site).as_posix()}")
                entry.compress_type, entry.external_attr = (
                    zipfile.ZIP_DEFLATED,
                    0o644 << 16,
                )
                archive.writestr(entry, file.read_bytes())
    partial.replace(path)


def main():
    browser_path()  # say that it is missing before the build, not after
    environment = os.environ | {"COURSE_DOWNLOADS": "1"}  # the page links to both
    built = subprocess.run([sys.executable, "tools/book.py"], cwd=ROOT, env=environment)
    if built.returncode:
        sys.exit(built.returncode)
    names = pages(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8")))
    pdf, archive = SITE / f"{NAME}.pdf", SITE / f"{NAME}.zip"
    count = write_pdf(SITE, names, pdf)
    write_zip(SITE, archive, leave=[pdf])
    for path, what in ((pdf, f"{count} pages"), (archive, "le site entier")):
        print(f"{path} : {what}, {path.stat().st_size / 1e6:.0f} Mo")


if __name__ == "__main__":
    main()
