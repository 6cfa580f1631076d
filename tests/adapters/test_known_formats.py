"""Structured text is never published as prose: a file that no adapter reads is refused by the name of its format."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading.known.format_table import KnownFormat, format_of_bytes, known_formats
from choline_data.adapters.reading.known.identity import identify
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import IngestPlan, Wishes, plan_source
from choline_data.errors import ChoiceNeededError, SourceDamagedError, SourceFormatError

PROSE = {
    "story": "Once upon a time, there was a king.\nHe had three sons, and he loved them all.\n\nThe eldest went away.\n"
    * 4,
    "poem": "Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye,\nCould frame thy\n"
    * 3,
    "play": "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n\n" * 8,
    "dialogue": "Anna: Where have you been?\nBen: I was at home, as always.\nAnna: I did not see you there.\n" * 6,
    "chinese": "春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。\n" * 6,
    "thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ\n" * 8,
    "russian": "Все люди рождаются свободными и равными в своём достоинстве и правах.\nОни наделены разумом.\n" * 6,
    "list": "Things to take with you:\n- a warm coat and a hat\n- something to read on the train\n- bread and cheese\n"
    * 3,
    "quotes": "> He said that he would come.\n> I did not believe him.\nBut he came all the same, in the evening.\n"
    * 4,
    "recipe": "Take 2 eggs, 100 g of sugar and 50 g of flour.\nBeat the eggs for 5 minutes.\nBake at 180 degrees.\n"
    * 4,
    "code": "def area(radius):\n    return 3.14 * radius ** 2\n\n\nfor number in range(10):\n    print(area(number))\n"
    * 3,
    "names": "".join(
        f"{first} {last}{end}\n"
        for first, last in zip(("Ada", "Ben", "Cora"), ("Ab", "Be", "Co"), strict=True)
        for end in ("el", "ner", "rg", "le", "rn", "kman", "st", "ray", "lm", "son", "berg", "mann")
    ),
    "mail address": "Write to us: info@example.org. We answer within a day.\nOur office is open from 9 to 5.\n" * 4,
}

STRUCTURED = {
    "XML": '<?xml version="1.0"?>\n<inventory><item>1</item><owner>me</owner></inventory>\n',
    "HTML page": "<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n",
    "BRAT annotations": "T1\tPerson 0 5\tAlice\nT2\tPlace 10 15\tParis\nR1\tIn Arg1:T1 Arg2:T2\n",
    "tagged text (word/TAG)": "The/DT dog/NN barks/VBZ ./.\nA/DT cat/NN sleeps/VBZ ./.\n",
    "word vectors": "the " + "0.1 " * 9 + "0.2\nof " + "0.3 " * 9 + "0.4\n",
    "Turtle or TriG": "@prefix ex: <http://example.org/> .\nex:a ex:knows ex:b .\n",
    "INI configuration": "[server]\nhost = example.org\nport = 80\n\n[client]\nname = me\n",
    "SQL statements": "CREATE TABLE t (a INTEGER);\nINSERT INTO t VALUES (1);\n",
    "syslog": "Jan  5 10:11:12 host sshd[1]: Accepted password\nJan  5 10:11:13 host sshd[1]: closed\n",
    "log with a time on each line": "2024-01-05 10:11:12,5 INFO started\n2024-01-05 10:11:13,5 WARN slow\n",
    "plain-text accounts (Ledger or Beancount)": "2024-01-05 * \"Shop\"\n  Assets:Cash  -5.00 EUR\n  Expenses:Food\n",
    "IRC log": "[10:11] <ann> hello\n[10:12] <ben> hi there\n",
    "Praat TextGrid": 'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 2.5\n',
    "Java properties": "".join(f"key{n}.name=value {n} of the list\nother{n}=x\n" for n in range(4)),
    "lines of `key: value`": "".join(f"Name: Person {n}\nAge: {n}\nCity: Berlin\n\n" for n in range(4)),
    "a table of fixed width": "".join(f"{name:10}{n:>8}   {place:10}x\n" for n, (name, place) in
                                      enumerate([("Ann", "Rome"), ("Benjamin", "Oslo"), ("Cora", "Kiel")] * 4)),
    "JSON with comments or JSON5": "// settings\n{\n  name: 'x',\n}\n",
    "a block of headers above a text": "Metadata-Version: 2.1\nName: words\nVersion: 1.0\nLicense: MIT\nClassifier: A\n"
                                       "Classifier: B\n\nA package of words.\n",
    "fields parted by blanks": ";;; a lexicon\n" + "".join(f"word{chr(97 + n)}{end} {tag}\n" for n in range(20)
                               for end, tag in (("ing", "VBG"), ("s", "NNS"), ("", "NN"))),
    "report of EMBOSS": "#" * 40 + "\n# Program: water\n# Rundate: Sat 22 Oct 2022\n" + "#" * 40 + "\n\nseqA   1 TACAG 5\n",
    "Graphviz graph": 'dag {\nA [pos="-1.4,-2.3"]\nB [outcome,pos="1.6,2.6"]\nA -> B\n}\n',
    "NEXUS": "#NEXUS\nbegin taxa;\nend;\n",
    "diff": "--- a/file.txt\n+++ b/file.txt\n@@ -1 +1 @@\n-old line\n+new line\n",
}  # fmt: skip


def plan(path: Path, as_kind: str = "") -> IngestPlan:
    return plan_source(resolve(str(path)), "x", Wishes(as_kind=as_kind))


@pytest.mark.parametrize("name", PROSE)
@pytest.mark.parametrize("file", ["notes.txt", "notes"])
def test_prose_and_code_are_texts(tmp_path: Path, name: str, file: str) -> None:
    if name == "code" and file == "notes":
        pytest.skip("code without an extension is asked about, because its name says nothing")
    (tmp_path / file).write_text(PROSE[name])
    assert plan(tmp_path / file).kind == "text"


@pytest.mark.parametrize("name", STRUCTURED)
def test_structured_text_is_refused_by_name_and_read_on_request(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data.txt"
    path.write_text(STRUCTURED[name])
    assert identify(SourceFile(str(path), path.name)).what == name
    with pytest.raises(SourceFormatError) as caught:
        plan(path)
    assert f"data.txt is {name}" in caught.value.message
    assert "`--as text`" in caught.value.remedy
    assert plan(path, "text").kind == "text"


def test_a_folder_of_structured_texts_is_refused_as_a_whole(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}.txt").write_text(STRUCTURED["NEXUS"])
    with pytest.raises(SourceFormatError, match=r"each of 64 files .* is NEXUS; and 36 more"):
        plan(tmp_path)


def test_a_structured_file_beside_prose_is_left_out_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(PROSE["story"])
    (tmp_path / "b.txt").write_text(PROSE["poem"])
    (tmp_path / "c.txt").write_text(STRUCTURED["NEXUS"])
    found = {file.name: file.reason for file in plan(tmp_path).account}
    assert found == {"a.txt": "", "b.txt": "", "c.txt": "no adapter reads it: NEXUS"}


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl", "data.json", "data.tsv", "data.parquet"])
def test_an_error_page_in_place_of_data_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<!DOCTYPE html>\n<html><head><title>404</title></head><body>a, b</body></html>\n")
    with pytest.raises(SourceDamagedError, match="web page"):
        plan(tmp_path / name)


@pytest.mark.parametrize(("name", "first"), [("a.odt", "mimetype"), ("a.pptx", "ppt/presentation.xml")])
def test_an_office_document_is_no_archive(tmp_path: Path, name: str, first: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr(first, "<?xml version='1.0'?><document>The text of a letter.</document>")
    with pytest.raises(SourceFormatError, match=r"is (OpenDocument text|PowerPoint presentation)"):
        plan(tmp_path / name)


def test_an_archive_of_structured_texts_names_their_format(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("seq.txt", STRUCTURED["NEXUS"])
    with pytest.raises(SourceFormatError, match=r"seq\.txt is NEXUS"):
        plan(tmp_path / "a.zip")
    assert plan(tmp_path / "a.zip", "text").kind == "text"


TABLE = "name,age,city\n" + "".join(f"Person{n},{20 + n},Town{n}\n" for n in range(20))


@pytest.mark.parametrize("name", ["rows.txt", "rows.data", "rows.dat", "rows.all", "rows.tab"])
def test_a_certain_table_is_a_table_under_any_name(tmp_path: Path, name: str) -> None:
    text = TABLE.replace(",", "\t") if name.endswith("tab") else TABLE
    (tmp_path / name).write_text(text)
    assert plan(tmp_path / name).kind == "tabular"


def test_a_table_with_torn_lines_is_a_question(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text(TABLE + "and a line of another kind\n")
    with pytest.raises(ChoiceNeededError, match="may be a table or plain text") as caught:
        plan(path)
    assert "--as tabular" in caught.value.remedy
    assert "--as text" in caught.value.remedy
    assert plan(path, "tabular").kind == "tabular"
    assert plan(path, "text").kind == "text"


def test_text_with_an_unknown_extension_is_prose_or_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zzz").write_text(PROSE["story"])
    with pytest.raises(SourceFormatError, match="unknown extension"):
        plan(tmp_path / "a.zzz")
    assert plan(tmp_path / "a.zzz", "text").kind == "text"


def test_binary_data_are_named_or_shown(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x0e\x03\x13\x01" + bytes(100))
    with pytest.raises(SourceFormatError, match=r"a\.bin is HDF4"):
        plan(tmp_path / "a.bin")
    (tmp_path / "b.bin").write_bytes(bytes([1, 2, 3, 4, 0, 200, 0, 7]) * 20)
    with pytest.raises(SourceFormatError, match="01 02 03 04 00 c8 00 07"):
        plan(tmp_path / "b.bin")


def test_the_table_has_each_name_once_and_a_remedy() -> None:
    names = [known.name for known in known_formats()]
    assert len(names) == len(set(names)) > 200
    assert [k.name for k in known_formats() if not k.remedy and not k.reader and k.name != "HTML page"] == []


@pytest.mark.parametrize(
    "known", [k for k in known_formats() for _, magic in k.magic if len(magic) > 3], ids=lambda k: k.name
)
def test_each_magic_number_gives_its_own_format(known: KnownFormat) -> None:
    for at, magic in known.magic:
        found = format_of_bytes(bytes([0xEE]) * at + magic + bytes(64))
        assert found is not None
        assert found.name == known.name or at > 0


HOSTILE = [" " * 9000, "\n" * 9000, "(" * 9000, "<a " * 3000, "# x\n" * 2000, "key: v\n" * 1500, "data_x\n" + " \n" * 4000,
           "/* x */\n" * 1200, "ACGT" * 2300, "0.5 1.5 2.5 3.5\n" * 600, "@a\n" * 3000, "A: b\n\t" * 1500,
           '"PER_MINTE_AVS","A_B_C_D",' * 300]  # fmt: skip


def test_no_pattern_takes_long_on_hostile_text() -> None:
    for text in HOSTILE:
        lines = text.split("\n")
        for known in known_formats():
            began = time.process_time()
            known.fits_text(text, lines)
            assert time.process_time() - began < 0.5, (known.name, text[:10])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.sav", b"SR\x00\x04\x00\x00\x00\x0a\x00\x00\x00\x20" + bytes(64), "IDL save file"),
    ],
)
def test_formats_that_share_an_extension_or_a_syntax_have_their_own_names(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceFormatError, match=said):
        plan(tmp_path / name)


def test_an_unknown_root_below_many_comments_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(
        '<?xml version="1.0"?>\n' + "<!-- a comment -->\n" * 300 + "<fpmd:simulation><step/></fpmd:simulation>\n"
    )
    assert identify(SourceFile(str(path), path.name)).what.startswith("XML")


def test_a_well_log_is_refused_in_any_case_of_its_first_section(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(
        "~Version -----\nVERS. 1.2 : CWLS LOG ASCII STANDARD - VERSION 1.2\nWRAP.  NO : ONE LINE PER DEPTH STEP\n~Well\n"
    )
    assert identify(SourceFile(str(path), path.name)).what == "LAS well log"


@pytest.mark.parametrize(
    "text",
    ["REST read1\nRESTING read2\nRESTLESS read4\nSOMETHING read8\n", "I 230218\nII 813184\nMito 85779\nX 745751\n"],
)
def test_words_beside_numbers_or_numbered_names_are_fields(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rest.txt"
    path.write_text(text)
    with pytest.raises((SourceFormatError, ChoiceNeededError)):
        plan(path)
