"""Documents of records that other libraries write: JSON, YAML, XML, mail, bibliographies, games."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import mailbox
import tarfile
import zipfile
from email.message import EmailMessage
from pathlib import Path
from xml.etree import ElementTree

from tests.formats_by_others.written import PLAIN, ROWS, Row, writer

MAILS: list[Row] = [
    {"subject": f"Über die See, {n}", "from": "ann@example.org", "text": f"Dear reader,\n\nthis is mail number {n}.\n"}
    for n in range(5)
]
NESTED: list[Row] = [
    {"id": n, "tags": ["a", f"b{n}"], "where": {"x": n / 2, "y": None}, "big": 2**63 + n, "empty": []} for n in range(6)
]


def _lines() -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


@writer("JSON of json", "json")
def _(folder: Path) -> None:
    (folder / "x.json").write_text(json.dumps(ROWS, indent=1))


@writer("nested JSON of json", "json", NESTED)
def _(folder: Path) -> None:
    (folder / "x.json").write_text(json.dumps(NESTED))


@writer("nested JSON Lines of json", "json", NESTED)
def _(folder: Path) -> None:
    (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in NESTED))


@writer("JSON Lines of json in gzip", "gzip")
def _(folder: Path) -> None:
    (folder / "x.jsonl.gz").write_bytes(gzip.compress(_lines()))


@writer("JSON Lines of json in bzip2", "bz2")
def _(folder: Path) -> None:
    (folder / "x.jsonl.bz2").write_bytes(bz2.compress(_lines()))


@writer("JSON Lines of json in XZ", "lzma")
def _(folder: Path) -> None:
    (folder / "x.jsonl.xz").write_bytes(lzma.compress(_lines()))


@writer("JSON Lines in ZIP of zipfile", "zipfile")
def _(folder: Path) -> None:
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("deep/rows.jsonl", _lines())


@writer("JSON Lines in a tar of tarfile", "tarfile")
def _(folder: Path) -> None:
    with tarfile.open(folder / "x.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("Ä/rows.jsonl")
        info.size = len(_lines())
        archive.addfile(info, io.BytesIO(_lines()))


@writer("JSON Lines of orjson", "orjson")
def _(folder: Path) -> None:
    import orjson

    (folder / "x.ndjson").write_bytes(b"\n".join(orjson.dumps(row) for row in ROWS))


@writer("JSON Lines of jsonlines", "jsonlines")
def _(folder: Path) -> None:
    import jsonlines

    with jsonlines.open(folder / "x.jsonl", "w") as out:
        out.write_all(ROWS)


@writer("YAML of PyYAML", "yaml")
def _(folder: Path) -> None:
    import yaml

    (folder / "x.yaml").write_text(yaml.safe_dump(ROWS, allow_unicode=True))


@writer("YAML documents of PyYAML", "yaml")
def _(folder: Path) -> None:
    import yaml

    (folder / "x.yaml").write_text(yaml.safe_dump_all(ROWS, allow_unicode=True))


@writer("YAML of ruamel.yaml", "ruamel.yaml")
def _(folder: Path) -> None:
    from ruamel.yaml import YAML

    with (folder / "x.yaml").open("w") as out:
        YAML().dump(ROWS, out)


@writer("TOML of tomli-w", "tomli_w", PLAIN)
def _(folder: Path) -> None:
    import tomli_w

    (folder / "x.toml").write_text(tomli_w.dumps({"rows": PLAIN}))


@writer("XML of xml.etree", "xml.etree", PLAIN, cells=True)
def _(folder: Path) -> None:
    root = ElementTree.Element("rows")
    for row in PLAIN:
        item = ElementTree.SubElement(root, "row")
        for key, value in row.items():
            ElementTree.SubElement(item, key).text = str(value)
    ElementTree.ElementTree(root).write(folder / "x.xml", encoding="utf-8", xml_declaration=True)


@writer("XML of lxml", "lxml", PLAIN, cells=True)
def _(folder: Path) -> None:
    from lxml import etree

    root = etree.Element("rows")
    for row in PLAIN:
        item = etree.SubElement(root, "row")
        for key, value in row.items():
            etree.SubElement(item, key).text = str(value)
    etree.ElementTree(root).write(str(folder / "x.xml"), encoding="utf-16", xml_declaration=True)


def _mail(row: Row) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"], mail["From"] = row["subject"], row["from"]
    mail.set_content(row["text"])
    return mail


@writer("mbox of mailbox", "mailbox", MAILS, part=True, kind="text")
def _(folder: Path) -> None:
    box = mailbox.mbox(folder / "x.mbox")
    for row in MAILS:
        box.add(_mail(row))
    box.close()


@writer("messages of email", "email", MAILS, part=True, kind="text")
def _(folder: Path) -> None:
    for number, row in enumerate(MAILS):
        (folder / f"{number}.eml").write_bytes(bytes(_mail(row)))


@writer("Maildir of mailbox", "mailbox", MAILS, part=True, kind="text")
def _(folder: Path) -> None:
    box = mailbox.Maildir(folder / "x")
    for row in MAILS:
        box.add(_mail(row))


ENTRIES: list[Row] = [{"type": "article", "key": f"k{n}", "title": f"The {n}th sea", "year": "1999"} for n in range(5)]


@writer("BibTeX of bibtexparser", "bibtexparser", ENTRIES, part=True, cells=True)
def _(folder: Path) -> None:
    import bibtexparser
    from bibtexparser.model import Entry, Field

    library = bibtexparser.Library(
        [Entry(e["type"], e["key"], [Field("title", e["title"]), Field("year", e["year"])]) for e in ENTRIES]
    )
    (folder / "x.bib").write_text(bibtexparser.write_string(library))


@writer("PO of polib", "polib", [{"source": f"Sea {n}", "translation": f"Meer {n}"} for n in range(5)], part=True)
def _(folder: Path) -> None:
    import polib

    catalog = polib.POFile()
    catalog.metadata = {"Content-Type": "text/plain; charset=utf-8", "Language": "de"}
    for number in range(5):
        catalog.append(polib.POEntry(msgid=f"Sea {number}", msgstr=f"Meer {number}"))
    catalog.save(str(folder / "de.po"))


@writer("games of chess", "chess", [{"White": f"Ann {n}", "Result": "*"} for n in range(4)], part=True)
def _(folder: Path) -> None:
    import chess.pgn

    with (folder / "x.pgn").open("w") as out:
        for number in range(4):
            game = chess.pgn.Game()
            game.headers["White"] = f"Ann {number}"
            game.add_variation(chess.Move.from_uci("e2e4"))
            print(game, file=out, end="\n\n")


@writer("sequences of Biopython", "Bio", [{"id": f"s{n}", "sequence": "ACGT" * n} for n in range(1, 6)], part=True)
def _(folder: Path) -> None:
    from Bio import SeqIO
    from Bio.Seq import Seq
    from Bio.SeqRecord import SeqRecord

    records = [SeqRecord(Seq("ACGT" * n), id=f"s{n}", description="of a sea") for n in range(1, 6)]
    SeqIO.write(records, folder / "x.fasta", "fasta")
