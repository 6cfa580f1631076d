"""References, calendars, contacts, statements of RDF, parallel texts and BRAT annotations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.parallel_texts import ParallelTexts
from choline_data.adapters.standoff import Standoff
from choline_data.adapters.text_records.calendars import Calendars
from choline_data.adapters.text_records.references import Ris
from choline_data.adapters.text_records.triples import Triples
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import IngestPlan, Wishes, plan_source
from choline_data.errors import SourceFormatError

RIS = (
    "TY  - JOUR\nAU  - Bee, Ann\nAU  - Sea, Ben\nTI  - On things\nAB  - We look\n  and look.\nKW  - x\nER  - \n\n"
    "TY  - BOOK\nTI  - B\nER  -\n"
)
ICS = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\n"
    "BEGIN:VTIMEZONE\r\nTZID:x\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT\r\nSUMMARY:Lunch\\, with\r\n  Ann\r\n"
    'DTSTART;TZID="Europe/Rome":20240105T120000\r\nATTENDEE:a\r\nATTENDEE:b\r\nDESCRIPTION:one\\ntwo\r\nBEGIN:VALARM\r\nACTION:x\r\n'
    "END:VALARM\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
VCF = (
    "BEGIN:VCARD\nVERSION:3.0\nFN:Ada Love\nitem1.EMAIL;TYPE=work:a@x.org\nEND:VCARD\nBEGIN:VCARD\nFN:Ben\nEND:VCARD\n"
)
TRIPLES = (
    '# a comment\n<http://x/a> <http://x/p> <http://x/b> .\n<http://x/a> <http://x/n> "A \\"b\\" \\u00e9"@en-GB .\n'
    '_:n <http://x/v> "5"^^<http://x/int> <http://x/g> .\n'
)
ROWS: dict[str, tuple[Adapter, str, str, list[dict[str, Any]]]] = {
    "ris": (Ris(), "a.ris", RIS, [
        {"TY": "JOUR", "AU": ["Bee, Ann", "Sea, Ben"], "TI": "On things", "AB": "We look and look.", "KW": ["x"]},
        {"TY": "BOOK", "TI": "B"}]),
    "ics": (Calendars(), "a.ics", ICS, [
        {"component": "vevent", "summary": "Lunch, with Ann", "dtstart": "20240105T120000", "attendee": ["a", "b"],
         "description": "one\ntwo", "parameters": ['dtstart;TZID="Europe/Rome"'],
         "components": ["BEGIN:VALARM\nACTION:x\nEND:VALARM"]}]),
    "vcard": (Calendars(), "a.vcf", VCF, [
        {"component": "vcard", "version": "3.0", "fn": "Ada Love", "email": "a@x.org", "parameters": ["item1.email;TYPE=work"],
         "components": []},
        {"component": "vcard", "fn": "Ben", "parameters": [], "components": []}]),
    "n-triples": (Triples(), "a.nt", TRIPLES, [
        {"subject": "http://x/a", "predicate": "http://x/p", "object": "http://x/b", "object_kind": "iri"},
        {"subject": "http://x/a", "predicate": "http://x/n", "object": 'A "b" é', "object_kind": "literal",
         "object_language": "en-GB"},
        {"subject": "_:n", "predicate": "http://x/v", "object": "5", "object_kind": "literal", "datatype": "http://x/int",
         "graph": "http://x/g"}]),
}  # fmt: skip


def planned(path: Path) -> IngestPlan:
    return plan_source(resolve(str(path)), "x", Wishes())


@pytest.mark.parametrize("name", ROWS)
def test_records_come_back(name: str, write: Callable[..., Path], read: Callable[..., Any]) -> None:
    adapter, file, content, truth = ROWS[name]
    path = write(file, content)
    (part,) = planned(path).parts
    assert part.adapter == adapter
    found = read(adapter, path)
    assert found.rows == truth
    assert not found.rejects


DAMAGED: dict[str, tuple[Adapter, str, str, int]] = {
    "cut reference": (Ris(), RIS[:-8], "truncated", 1),
    "reference without an end": (Ris(), RIS.replace("ER  - \n", ""), "before the one above it ends", 1),
    "cut event": (Calendars(), ICS[:-40], "truncated", 0),
    "event with another line": (Calendars(), ICS.replace("ATTENDEE:a", "ATTENDEE"), "is not a property", 0),
    "cut statement": (Triples(), TRIPLES[:-4], "line 4: not a statement", 2),
    "number that is no character": (Triples(), TRIPLES.replace("\\u00e9", "\\UFFFFFFFF"), "line 3", 2),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_is_rejected(name: str, write: Callable[..., Path], read: Callable[..., Any]) -> None:
    adapter, content, why, rows = DAMAGED[name]
    found = read(adapter, write("a", content))
    assert found.count == rows
    assert [why in reject.reason for reject in found.rejects] == [True], found.rejects


def lines(text: str, count: int = 60) -> str:
    return "".join(text.format(n) + "\n" for n in range(count))


@pytest.mark.parametrize(
    ("one", "other"), [("a.en", "a.de"), ("a.src", "a.tgt"), ("a.en.txt", "a.de.txt"), ("a.pt_BR", "a.en")]
)
def test_files_of_lines_in_two_languages_are_pairs(write: Callable[..., Path], one: str, other: str) -> None:
    write(f"d/{one}", "\n" + lines("This is sentence {}."))
    write("d/README", "Corpus Name: x\nPackage: y\n")
    path = write(f"d/{other}", "\n" + lines("Das ist\u2028Satz {}."))
    plan = planned(path.parent)
    (part,) = plan.parts
    assert isinstance(part.adapter, ParallelTexts)
    assert (part.mapping.kind, part.mapping.form) == ("text", "parallel")
    rows = [row for shard in part.shards for chunk in part.adapter.read(shard) for row in chunk.batch.to_pylist()]
    assert len(rows) == 61
    assert sorted(rows[1].values()) == ["Das ist\u2028Satz 0.", "This is sentence 0."]
    assert {f.name: f.role for f in plan.account} == {one: "used", other: "used", "README": "described"}


def test_each_pair_keeps_its_split(write: Callable[..., Path]) -> None:
    for name in ("train", "dev"):
        write(f"d/{name}.en", lines(f"An English sentence of {name}, {{}}."))
        path = write(f"d/{name}.de", lines(f"Ein deutscher Satz von {name}, {{}}."))
    (part,) = planned(path.parent).parts
    assert sorted(shard.split for shard in part.shards) == ["train", "validation"]


def test_files_of_different_numbers_of_lines_are_refused(write: Callable[..., Path]) -> None:
    write("d/a.en", lines("This is sentence {}."))
    path = write("d/a.de", lines("Das ist Satz {}.", 59))
    with pytest.raises(SourceFormatError, match=r"a\.de has 59 lines"):
        planned(path.parent)


def test_short_documents_in_two_languages_are_documents(write: Callable[..., Path]) -> None:
    write("d/a.en.txt", "A story.\n\nThere was a king, and he had a son.\n")
    path = write("d/a.de.txt", "Eine Geschichte.\n\nEs war einmal ein König.\nEr hatte einen Sohn.\n")
    assert [type(part.adapter).__name__ for part in planned(path.parent).parts] == ["Text"]


def test_programs_are_no_parallel_texts(write: Callable[..., Path]) -> None:
    write("d/a.cs", "using System;\nclass A { }\n" * 4)
    path = write("d/a.pl", "use strict;\nmy $x = 1;\n" * 4)
    assert not any(isinstance(part.adapter, ParallelTexts) for part in planned(path.parent).parts)


TEXT = "Alice lives in Paris.\nShe likes it."
MARKS = "T1\tPerson 0 5\tAlice\nT2\tPlace 15 20\tParis\nT3\tBoth 0 5;15 20\tAlice Paris\nR1\tLivesIn Arg1:T1 Arg2:T2\n"


def test_annotations_of_brat_belong_to_their_text(write: Callable[..., Path]) -> None:
    for n in range(3):
        write(f"d/{n}.ann", MARKS)
        path = write(f"d/{n}.txt", f"{TEXT} {n}")
    write("d/annotation.conf", "[entities]\nPerson\n")
    (part,) = planned(path.parent).parts
    assert isinstance(part.adapter, Standoff)
    rows = [row for shard in part.shards for chunk in part.adapter.read(shard) for row in chunk.batch.to_pylist()]
    assert [row["text"] for row in rows] == [f"{TEXT} {n}" for n in range(3)]
    assert [(e["type"], e["text"], [(s["start"], s["end"]) for s in e["spans"]]) for e in rows[0]["entities"]] == [
        ("Person", "Alice", [(0, 5)]), ("Place", "Paris", [(15, 20)]), ("Both", "Alice Paris", [(0, 5), (15, 20)])]  # fmt: skip
    assert rows[0]["annotations"] == ["R1\tLivesIn Arg1:T1 Arg2:T2"]


def test_annotations_that_do_not_fit_their_text_are_rejected(write: Callable[..., Path]) -> None:
    write("d/a.ann", MARKS)
    path = write("d/a.txt", f"So {TEXT}")
    (shard,) = Standoff().shards([SourceFile(str(path.with_suffix(s)), f"a{s}") for s in (".ann", ".txt")])
    (chunk,) = Standoff().read(shard)
    assert ["its offsets refer to" in reject.reason for reject in chunk.rejects] == [True]


class TestParallelTexts(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return ParallelTexts()

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        return [source_file(write(f"a.{code}", lines(f"{code} {{}}", 5000))) for code in ("de", "en")]
