"""Documents: pages, notebooks, books, articles. Each is written here and read back; hostile ones end in a reason."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.document_formats.books import Books
from choline_data.adapters.document_formats.front_matter import FrontMatter
from choline_data.adapters.document_formats.html_pages import HtmlPages
from choline_data.adapters.document_formats.html_text import page_text
from choline_data.adapters.document_formats.marked_up_texts import MarkedUpTexts
from choline_data.adapters.document_formats.notebooks import Notebooks
from choline_data.adapters.document_formats.pdf_pages import PdfPages
from choline_data.adapters.document_formats.word_documents import WordDocuments
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import Wishes, plan_source
from choline_data.errors import MissingDependencyError

STORY = "Once upon a time, there was a king who had three sons."
PAGE = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>A &amp; B</title><meta name="author" content="Ann">
<style>p {{color: red}}</style><script>var x = "<p>no</p>";</script></head>
<body><nav><a href="/">Home</a></nav><h1>Head</h1><p>{STORY}<br>Second&nbsp;<b>line</b>.</p>
<pre>a  b
c</pre><table><tr><td>1</td><td>2</td></tr></table><footer>Foot</footer></body></html>
"""


def zipped(parts: Mapping[str, str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return data.getvalue()


def word(body: str, **more: str) -> bytes:
    head = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
    return zipped(
        {"[Content_Types].xml": "<Types/>", "word/document.xml": f"{head}{body}</w:body></w:document>", **more}
    )


def paragraph(text: str) -> str:
    return f'<w:p><w:pPr><w:pStyle w:val="x"/></w:pPr><w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def book(*chapters: str, **more: str) -> bytes:
    items = "".join(f'<item id="c{n}" href="c%20{n}.xhtml"/>' for n in range(len(chapters)))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    about = "<dc:title>Tales</dc:title><dc:creator>Ann</dc:creator><dc:language>en</dc:language>"
    package = (
        f'<package xmlns:dc="u"><metadata>{about}</metadata><manifest>{items}<item id="nav" properties="nav" href="n.xhtml"/>'
        f'</manifest><spine><itemref idref="nav"/>{spine}</spine></package>'
    )
    container = '<container><rootfiles><rootfile full-path="E/b.opf"/></rootfiles></container>'
    pages = {
        f"E/c {n}.xhtml": f"<html><head><title>T{n}</title></head><body><p>{text}</p></body></html>"
        for n, text in enumerate(chapters)
    }
    return zipped(
        {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "E/b.opf": package, **pages, **more}
    )


def notebook(*cells: dict[str, Any]) -> str:
    about = {"language_info": {"name": "python"}}
    return json.dumps(
        {"nbformat": 4, "nbformat_minor": 5, "metadata": about, "cells": [{"metadata": {}, **c} for c in cells]}
    )


TEI = (
    '<?xml version="1.0"?>\n<TEI xmlns="http://www.tei-c.org/ns/1.0"><teiHeader><fileDesc><titleStmt><title>Work</title>'
    f"<author>Ann</author></titleStmt></fileDesc></teiHeader><text><body><head>One</head><p>{STORY}</p>"
    '<lg><l>A <hi rend="i">first</hi> verse</l><l>and a second</l></lg></body></text></TEI>'
)
JATS = (
    '<?xml version="1.0"?>\n<!DOCTYPE article PUBLIC "-//NLM//DTD JATS v1.2//EN" "JATS-archivearticle1.dtd">\n'
    '<article article-type="research-article"><front><article-meta><article-id pub-id-type="doi">10.1/x</article-id><title-group>'
    '<article-title>On <italic>things</italic></article-title></title-group><contrib-group><contrib contrib-type="author"><name>'
    "<surname>Bee</surname><given-names>Ann</given-names></name></contrib></contrib-group><pub-date><year>2024</year></pub-date>"
    f"<abstract><p>We look.</p></abstract></article-meta></front><body><sec><title>Aim</title><p>{STORY}</p></sec></body></article>"
)
KINDS: dict[str, tuple[str, str | bytes, type, list[dict[str, Any]]]] = {
    "html": ("a.html", PAGE, HtmlPages, [
        {"text": f"Head\n\n{STORY}\nSecond line.\n\na  b\nc\n\n1\t2", "title": "A & B", "language": "en", "author": "Ann",
         "source": PAGE}]),
    "notebook": ("a.ipynb", notebook(
        {"cell_type": "markdown", "source": ["# One\n", "two"]},
        {"cell_type": "code", "source": "1/0", "execution_count": 3, "outputs": [
            {"output_type": "stream", "name": "stdout", "text": ["a\n", "b"]},
            {"output_type": "display_data", "data": {"text/plain": "<x>", "image/png": "iVBORw0KGgo="}},
            {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "by zero", "traceback": []}]}), Notebooks, [
        {"text": "# One\ntwo", "cell": "markdown", "number": 0, "kernel": "python"},
        {"text": "1/0", "cell": "code", "number": 1, "outputs": ["a\nb", "<x>", "ZeroDivisionError: by zero"], "kernel": "python",
         "output_types": ["error", "image/png", "stream", "text/plain"], "execution_count": 3}]),
    "yaml front matter": ("a.md", f"---\ntitle: One\ntags: [a, b]\ntext: x\n---\n\n# Head\n{STORY}\n", FrontMatter, [
        {"text": f"# Head\n{STORY}\n", "path": "a.md", "title": "One", "tags": ["a", "b"], "field.text": "x"}]),
    "toml front matter": ("a.md", f"+++\ntitle = 'One'\ndate = 2024-01-05\n+++\n{STORY}\n", FrontMatter, [
        {"text": f"{STORY}\n", "path": "a.md", "title": "One", "date": "2024-01-05"}]),
    "word": ("a.docx", word(
        paragraph(STORY) + '<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t></w:r>'
        "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
        f"<w:tbl><w:tr><w:tc>{paragraph('1')}</w:tc><w:tc>{paragraph('2')}</w:tc></w:tr></w:tbl>",
        **{"docProps/core.xml": "<cp xmlns:dc='u'><dc:title>T</dc:title><dc:creator>Ann</dc:creator></cp>",
           "word/footnotes.xml": f"<w:f xmlns:w='u'><w:footnote>{paragraph('See there.')}</w:footnote></w:f>"}), WordDocuments, [
        {"text": f"{STORY}\na\tb\n1\t2", "title": "T", "author": "Ann", "notes": ["See there."], "pictures": 0}]),
    "epub": ("a.epub", book(STORY, "", "The end."), Books, [
        {"text": STORY, "chapter": "T0", "number": 0, "title": "Tales", "author": "Ann", "language": "en",
         "part": "E/c 0.xhtml"},
        {"text": "The end.", "chapter": "T2", "number": 1, "title": "Tales", "author": "Ann", "language": "en",
         "part": "E/c 2.xhtml"}]),
    "tei": ("a.xml", TEI, MarkedUpTexts, [
        {"text": f"One\n{STORY}\nA first verse\nand a second", "title": "Work", "authors": ["Ann"], "source": TEI}]),
    "jats": ("a.nxml", JATS, MarkedUpTexts, [
        {"text": f"On things\n\nWe look.\n\nAim\n{STORY}", "title": "On things", "authors": ["Ann Bee"], "abstract": "We look.",
         "year": "2024", "id.doi": "10.1/x", "source": JATS}]),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_document_comes_back(name: str, write: Callable[..., Path], read: Callable[..., Any]) -> None:
    file, content, kind, truth = KINDS[name]
    path = write(file, content)
    (part,) = plan_source(resolve(str(path)), "x", Wishes()).parts
    assert isinstance(part.adapter, kind)
    assert part.mapping.kind == "text"
    found = read(part.adapter, path)
    assert found.rows == truth
    assert not found.rejects


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa">]><{0}>&a;</{0}>'
FAR = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><{0}>&a;</{0}>'
HOSTILE: dict[str, tuple[Adapter, str, str | bytes, str]] = {
    "tei with an entity": (MarkedUpTexts(), "a.xml", BOMB.format("TEI"), "entity 'a' is refused"),
    "jats with another file": (MarkedUpTexts(), "a.nxml", FAR.format("article"), "entity 'a' is refused"),
    "deep tei": (MarkedUpTexts(), "a.xml", "<TEI>" + "<p>" * 5000, "200 levels"),
    "cut jats": (MarkedUpTexts(), "a.nxml", JATS[:-20], "not XML"),
    "word with an entity": (
        WordDocuments(), "a.docx", zipped({"word/document.xml": BOMB.format("document")}), "entity 'a' is refused"),
    "word that grows": (WordDocuments(), "a.docx", word(" " * (65 << 20)), "above 67,108,864 bytes"),
    "word without its text": (WordDocuments(), "a.docx", zipped({"word/styles.xml": "<x/>"}), "lacks its part word/document.xml"),
    "cut word": (WordDocuments(), "a.docx", word(paragraph(STORY))[:-30], "not a ZIP archive"),
    "protected book": (Books(), "a.epub", book(STORY, **{
        "META-INF/encryption.xml": '<e><EncryptedData><CipherReference URI="E/c%200.xhtml"/></EncryptedData></e>',
    }), "copy-protected"),
    "notebook without cells": (Notebooks(), "a.ipynb", '{"nbformat": 4}', "without cells"),
    "cut notebook": (Notebooks(), "a.ipynb", notebook({"cell_type": "raw", "source": "x"})[:-9], "a.ipynb"),
    "front matter that is no YAML": (FrontMatter(), "a.md", "---\na: [\n---\nText.\n", "a.md"),
    "large page": (HtmlPages(max_bytes=100), "a.html", PAGE, "above 100 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_is_one_rejected_row(
    name: str, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    adapter, file, content, why = HOSTILE[name]
    found = read(adapter, write(file, content))
    assert found.rows == []
    assert [why in reject.reason for reject in found.rejects] == [True], found.rejects
    assert found.error is None


def test_a_damaged_document_among_others_is_rejected_alone(write: Callable[..., Path]) -> None:
    paths = [
        write("a.docx", word(paragraph("One"))),
        write("b.docx", b"PK\x03\x04"),
        write("c.docx", word(paragraph("Two"))),
    ]
    adapter = WordDocuments()
    shards = adapter.shards([SourceFile(str(path), path.name, path.stat().st_size) for path in paths])
    chunks = [chunk for shard in shards for chunk in adapter.read(shard)]
    assert [row["text"] for chunk in chunks for row in chunk.batch.to_pylist()] == ["One", "Two"]
    assert [(reject.row, reject.reason[:7]) for chunk in chunks for reject in chunk.rejects] == [(1, "b.docx:")]


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<body><nav>Menu<p>All of the text", "Menu\nAll of the text"),
        ("<body><nav>Menu</nav><main><p>Said.</main><p>Around.", "Said."),
        ("<p>a</p><svg><title>t</title></svg><p>b", "a\n\nb"),
        ("<title>T<body>x", "x"),
        ("a < b &amp; c <!-- no --> d", "a < b & c d"),
    ],
)
def test_no_text_of_a_page_is_lost_to_elements_that_are_not_closed(html: str, text: str) -> None:
    assert page_text(html).text == text


def test_markdown_without_front_matter_stays_plain_text(write: Callable[..., Path]) -> None:
    (part,) = plan_source(resolve(str(write("a.md", f"---\n\n# Head\n\n---\n{STORY}\n"))), "x", Wishes()).parts
    assert type(part.adapter).__name__ == "Text"


def test_pages_among_other_texts_are_read_as_they_are(write: Callable[..., Path]) -> None:
    write("d/a.html", PAGE)
    path = write("d/b.md", f"# Head\n\n{STORY}\n")
    plan = plan_source(resolve(str(path.parent)), "x", Wishes())
    assert [type(part.adapter).__name__ for part in plan.parts] == ["Text"]


def test_a_document_beside_rows_describes_them(write: Callable[..., Path]) -> None:
    write("d/paper.docx", word(paragraph(STORY)))
    write("d/example.ipynb", notebook({"cell_type": "code", "source": "x = 1", "outputs": []}))
    write("d/index.html", PAGE)
    path = write("d/rows.jsonl", "".join(json.dumps({"text": f"{STORY} {n}"}) + "\n" for n in range(9)))
    plan = plan_source(resolve(str(path.parent)), "x", Wishes())
    assert {f.name: f.role for f in plan.account} == {
        "rows.jsonl": "used", "paper.docx": "described", "example.ipynb": "described", "index.html": "described"}  # fmt: skip


def pdf(*pages: str) -> bytes:
    """A PDF with a line of text on each page. A page without text has an empty stream."""
    objects = ["<</Type/Catalog/Pages 2 0 R>>", "", "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET" if text else ""
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
        resources = "<</Font<</F1 3 0 R>>>>"
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Resources{resources}/Contents {len(objects)} 0 R>>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<</Type/Pages/Count {len(kids)}/Kids[{' '.join(kids)}]>>"
    data, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj{content}endobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    tail = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer<</Size {len(objects) + 1}/Root 1 0 R>>\n"
    return data + f"{tail}startxref\n{len(data)}\n%%EOF\n".encode()


def test_pages_of_pdf_are_rows(write: Callable[..., Path]) -> None:
    pytest.importorskip("pypdf")
    path = write("a.pdf", pdf("The first page.", "", "The third page."))
    (part,) = plan_source(resolve(str(path)), "x", Wishes()).parts
    rows = [row for shard in part.shards for chunk in part.adapter.read(shard) for row in chunk.batch.to_pylist()]
    assert [(row["text"].strip(), row["page"], row["pages"]) for row in rows] == [
        ("The first page.", 1, 3), ("", 2, 3), ("The third page.", 3, 3)]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "why"), [(pdf("", ""), "no text, only pictures"), (b"%PDF-1.4\nnothing", "not readable as PDF")]
)
def test_a_pdf_without_text_is_rejected(
    content: bytes, why: str, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    pytest.importorskip("pypdf")
    found = read(PdfPages(), write("a.pdf", content))
    assert found.rows == []
    assert [why in reject.reason for reject in found.rejects] == [True], found.rejects


def test_pdf_without_its_library_names_the_extra(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(MissingDependencyError, match="PDF") as caught:
        plan_source(resolve(str(write("a.pdf", pdf("Text.")))), "x", Wishes())
    assert "choline-data[documents]" in str(caught.value)


class TestHtmlPages(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return HtmlPages()

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        return [source_file(write(f"{n:02}.html", PAGE.replace("Head", f"Head {n}"))) for n in range(20)]


class TestNotebooks(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return Notebooks()

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        cells = [{"cell_type": "code", "source": f"print({n})", "outputs": []} for n in range(3000)]
        return [source_file(write(f"{n}.ipynb", notebook(*cells))) for n in range(2)]
