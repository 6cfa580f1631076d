"""Formats that are recognised and refused: the message names them."""

from __future__ import annotations

import marshal
import shelve
import zlib
from pathlib import Path

from tests.formats_by_others.written import REFUSED, ROWS, writer


@writer("MessagePack of msgpack", "msgpack", ROWS)
def _(folder: Path) -> None:
    import msgpack

    (folder / "x.msgpack").write_bytes(msgpack.packb(ROWS))


@writer("CBOR of cbor2", "cbor2", ROWS)
def _(folder: Path) -> None:
    import cbor2

    (folder / "x.cbor").write_bytes(cbor2.dumps(ROWS))


@writer("BSON of bson", "bson", ROWS)
def _(folder: Path) -> None:
    import bson

    (folder / "x.bson").write_bytes(b"".join(bson.BSON.encode(row) for row in ROWS))


@writer("objects of marshal", "marshal", ends=REFUSED)
def _(folder: Path) -> None:
    (folder / "x.bin").write_bytes(marshal.dumps(ROWS))


@writer("objects of shelve", "shelve", ends=REFUSED)
def _(folder: Path) -> None:
    with shelve.open(str(folder / "x")) as out:
        out["rows"] = ROWS


@writer("stream of zlib", "zlib", ends=REFUSED)
def _(folder: Path) -> None:
    (folder / "x.zz").write_bytes(zlib.compress(repr(ROWS).encode()))


@writer("document of odfpy", "odf", ends=REFUSED, says="OpenDocument")
def _(folder: Path) -> None:
    from odf.opendocument import OpenDocumentText
    from odf.text import P

    document = OpenDocumentText()
    document.text.addElement(P(text="The sea was grey."))
    document.save(str(folder / "x.odt"))


@writer("book of ebooklib", "ebooklib", [{"text": "It is grey."}], kind="text", part=True)
def _(folder: Path) -> None:
    from ebooklib import epub

    book = epub.EpubBook()
    book.set_title("The sea")
    chapter = epub.EpubHtml(title="The sea", file_name="sea.xhtml", content="<p>It is grey.</p>")
    book.add_item(chapter)
    book.spine = [chapter]
    epub.write_epub(str(folder / "x.epub"), book)
