"""BibTeX, chess games and mail: written by hand and by the standard library, and damaged."""

from __future__ import annotations

import mailbox
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.text_records.bibtex import BibTeX
from choline_data.adapters.text_records.calendars import Calendars
from choline_data.adapters.text_records.chess_games import Pgn
from choline_data.adapters.text_records.mails import Mails
from choline_data.adapters.text_records.translations import PoFile
from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import Wishes, plan_source
from choline_data.errors import SourceDamagedError, SourceFormatError
from choline_data.places.home import Home

BIB = """Some words before.
@string{acm = "The " # "ACM"}
@comment{@article{not, title = {an entry}}}
@Article{knuth:84,
  author = {Donald E. Knuth and {The {TeX} group}},
  title = "Literate {\\"P}rogramming",
  journal = acm # { Journal},
  month = jan, year = 1984,
}
@misc(two, note = {a {nested {one}}
  on two lines})
"""
ENTRIES = [
    {"type": "article", "key": "knuth:84", "author": "Donald E. Knuth and {The {TeX} group}",
     "title": 'Literate {\\"P}rogramming', "journal": "The ACM Journal", "month": "jan", "year": "1984"},
    {"type": "misc", "key": "two", "note": "a {nested {one}} on two lines"},
]  # fmt: skip


def test_entries_have_their_fields(read: Callable[..., Any], write: Callable[..., Path]) -> None:
    found = read(BibTeX(), write("a.bib", BIB))
    assert found.error is None
    assert found.rows == ENTRIES


@pytest.mark.parametrize("end", [35, 180, 240, -4])
def test_a_cut_entry_is_damage(end: int, read: Callable[..., Any], write: Callable[..., Path]) -> None:
    assert isinstance(read(BibTeX(), write("a.bib", BIB[:end])).error, SourceDamagedError)


def test_a_field_that_stands_twice_is_a_reject(read: Callable[..., Any], write: Callable[..., Path]) -> None:
    found = read(BibTeX(), write("a.bib", "@misc{a, note = {x}, note = {y}}\n@misc{b, note = {z}}\n"))
    assert [row["key"] for row in found.rows] == ["b"]
    assert "twice" in found.rejects[0].reason


PO = """# The translators
msgid ""
msgstr ""
"Language: de\\n"
"Content-Type: text/plain; charset=UTF-8\\n"

#. what the button says
#: a.c:1 b.c:20
#, fuzzy, c-format
msgctxt "menu"
msgid "Open "
"the \\"file\\"\\n"
msgstr "Öffnen"

msgid "one file"
msgid_plural "%d files"
msgstr[0] "eine Datei"
msgstr[1] "%d Dateien"
msgid "untranslated"
msgstr ""

#~ msgid "old"
#~ msgstr "alt"
"""


def test_messages_have_their_translations(read: Callable[..., Any], write: Callable[..., Path]) -> None:
    first, second, third = read(PoFile(), write("a.po", PO)).rows
    assert first == {"source": 'Open the "file"\n', "translation": "Öffnen", "language": "de", "context": "menu",
                     "flags": ["fuzzy", "c-format"], "comment": "what the button says", "places": ["a.c:1", "b.c:20"]}  # fmt: skip
    assert (second["plural"], second["translations"]) == ("%d files", ["eine Datei", "%d Dateien"])
    assert third == {"source": "untranslated", "language": "de", "flags": [], "places": []}


def test_a_line_that_is_not_of_po_is_a_reject(read: Callable[..., Any], write: Callable[..., Path]) -> None:
    found = read(PoFile(), write("a.po", 'msgid "a"\nmsgstr "b"\n\nmsgid "c"\nmsgstr "cut\n\nmsgid "d"\nmsgstr "e"\n'))
    assert [row["source"] for row in found.rows] == ["a", "d"]
    assert "line 5" in found.rejects[0].reason


def test_messages_agree_with_polib(read: Callable[..., Any], write: Callable[..., Path]) -> None:
    polib = pytest.importorskip("polib")
    path = write("a.po", PO)
    truth = [entry for entry in polib.pofile(str(path)) if not entry.obsolete]
    assert [(row["source"], row.get("context")) for row in read(PoFile(), path).rows] == [
        (e.msgid, e.msgctxt) for e in truth
    ]


GAMES = """[Event "Open \\"A\\""]
[White "Ann"]

1. e4 {a comment
[Event "not a tag"]
} e5 2. Nf3 1-0

[Event "B"]
[White "Ben"]

*
"""


def test_games_have_their_tags_and_moves(read: Callable[..., Any], write: Callable[..., Path]) -> None:
    found = read(Pgn(), write("a.pgn", GAMES))
    assert found.rows == [
        {"Event": 'Open "A"', "White": "Ann", "moves": '1. e4 {a comment\n[Event "not a tag"]\n} e5 2. Nf3 1-0'},
        {"Event": "B", "White": "Ben", "moves": "*"},
    ]


def _message(number: int) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", f"Héllo {number}"
    message["Cc"], message["References"], message["List-Id"] = "c@example.org", "<1@x>", "<l.example.org>"
    message["Date"] = "Fri, 05 Jan 2024 10:11:12 +0100"
    message.set_content(f"From the first line on.\nÉ {number}\n")
    if number % 2:
        message.add_alternative(f"<p>{number}</p>", subtype="html")
        message.add_attachment(b"\0\1", maintype="application", subtype="octet-stream", filename="a.bin")
    return message


@pytest.fixture
def mbox(tmp_path: Path) -> Path:
    box = mailbox.mbox(str(tmp_path / "a.mbox"))
    for number in range(30):
        box.add(_message(number))
    box.close()
    return tmp_path / "a.mbox"


def test_a_mailbox_agrees_with_the_standard_library(mbox: Path, read: Callable[..., Any]) -> None:
    rows = read(Mails(), mbox).rows
    assert [row["subject"] for row in rows] == [f"Héllo {n}" for n in range(30)]
    assert [row["text"] for row in rows] == [f"From the first line on.\nÉ {n}\n" for n in range(30)]
    assert {row["date"] for row in rows} == {"2024-01-05T10:11:12+01:00"}
    about = {(row["cc"], row["references"], row["list_id"]) for row in rows}
    assert about == {("c@example.org", "<1@x>", "<l.example.org>")}
    assert [row["attachments"] for row in rows] == [["a.bin"] if n % 2 else [] for n in range(30)]


def test_a_single_message_is_one_row(tmp_path: Path, read: Callable[..., Any]) -> None:
    (tmp_path / "a.eml").write_bytes(bytes(_message(3)))
    assert [row["subject"] for row in read(Mails(), tmp_path / "a.eml").rows] == ["Héllo 3"]
    assert plan_source(resolve(str(tmp_path / "a.eml")), "x", Wishes()).kind == "text"


def test_bytes_in_another_encoding_than_stated_are_a_reject(
    read: Callable[..., Any], write: Callable[..., Path]
) -> None:
    head = b'From: a@example.org\nSubject: x\nContent-Type: text/plain; charset="utf-8"\nContent-Transfer-Encoding: 8bit\n\n'
    found = read(Mails(), write("a.eml", head + "é".encode("latin-1")))
    assert (found.count, len(found.rejects)) == (0, 1)


@pytest.mark.parametrize(("name", "kind"), [("a.bib", BibTeX), ("a.pgn", Pgn), ("a.txt", BibTeX), ("b.txt", Pgn)])
def test_the_plain_command_finds_the_format(name: str, kind: type, write: Callable[..., Path]) -> None:
    plan = plan_source(resolve(str(write(name, BIB if kind is BibTeX else GAMES))), "x", Wishes())
    assert [type(part.adapter) for part in plan.parts] == [kind]


class TestBibTeX(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return BibTeX()

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        return [source_file(write("a.bib", "".join(f"@misc{{k{n}, note = {{entry {n}}}}}\n" for n in range(5000))))]


class TestMails(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return Mails()

    @pytest.fixture
    def files(self, mbox: Path, source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        return [source_file(mbox)]


def test_components_of_any_name_and_groups_before_begin_are_records(write, read):
    free = "BEGIN:VCALENDAR\nBEGIN:VAVAILABILITY\nUID:a\nBEGIN:AVAILABLE\nUID:b\nEND:AVAILABLE\nEND:VAVAILABILITY\nEND:VCALENDAR\n"
    assert [row["component"] for row in read(Calendars(), write("a.ics", free)).rows] == ["vavailability"]
    card = "home.begin:vcard\nversion:2.1\nfn:Meister Berger\nend:vcard\n"
    assert [row["fn"] for row in read(Calendars(), write("a.vcf", card)).rows] == ["Meister Berger"]


def test_a_file_of_records_without_a_record_is_refused(write, tmp_path):
    home = Home(tmp_path / "home")
    path = write("a.ics", "BEGIN:VCALENDAR\nVERSION:2.0\nEND:VCALENDAR\n")
    with pytest.raises(SourceFormatError, match="holds no record"):
        ingest(home, prepare(home, str(path)))


def test_a_format_of_xml_that_is_known_is_refused_by_its_name(write):
    rows = "<TR><TD>1</TD></TR>" * 9
    table = (
        f'<?xml version="1.0"?>\n<VOTABLE version="1.4"><RESOURCE><TABLE>{rows}</TABLE></RESOURCE><RESOURCE/></VOTABLE>'
    )
    with pytest.raises(SourceFormatError, match="VOTable"):
        plan_source(resolve(str(write("a.xml", table))), "x", Wishes())
