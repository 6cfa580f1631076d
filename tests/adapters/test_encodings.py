"""Encodings of text files: stated and detected ones, questions to the user, and texts that are never published."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.csv_table import Delimited
from choline_data.adapters.json_document import JsonDocument
from choline_data.adapters.jsonl import JsonLines
from choline_data.adapters.reading.encodings import asked_for, decide, decoded
from choline_data.adapters.reading.plausible import DOUBLE_ENCODED
from choline_data.adapters.reading.text_files import encoding_of, with_file_encodings
from choline_data.adapters.text import Text
from choline_data.catalog.add import prepare
from choline_data.catalog.planning import Wishes
from choline_data.cli import main
from choline_data.errors import (
    ChoiceNeededError,
    InvalidOptionError,
    SourceDamagedError,
)
from choline_data.places.home import Home

RUSSIAN = "Все люди рождаются свободными и равными в своем достоинстве и правах.\n"
# The declaration of human rights, in the encodings in which such texts are still kept. Each is a file of nltk's `udhr`.
LANGUAGES = {
    "Russian_Russky-UTF8": "utf-8 utf-16 utf-16-le utf-16-be utf-32 utf-32-be cp1251 koi8-r cp866 iso8859-5",
    "Ukrainian-UTF8": "cp1251 koi8-u",
    "Bulgarian_Balgarski-UTF8": "cp1251 iso8859-5",
    "Greek_Ellinika-UTF8": "utf-8-sig cp1253 iso8859-7",
    "Hebrew_Ivrit-UTF8": "cp1255 iso8859-8",
    "Farsi_Persian-UTF8": "cp1256 utf-16-le",
    "Turkish_Turkce-UTF8": "cp1254 iso8859-9",
    "Czech-UTF8": "cp1250 iso8859-2",
    "Hungarian_Magyar-UTF8": "cp1250 iso8859-2",
    "French_Francais-Latin1": "latin-1 cp1252 iso8859-15 mac-roman",
    "German_Deutsch-Latin1": "latin-1 cp1252",
    "Icelandic_Yslenska-Latin1": "cp1252",
    "Spanish-Latin1": "latin-1",
    "Japanese_Nihongo-UTF8": "shift_jis euc_jp iso2022_jp utf-16-le",
    "Korean_Hankuko-UTF8": "euc_kr cp949",
    "Chinese_Mandarin-UTF8": "gb18030 gbk gb2312 utf-16-be",
}
FORMATS: dict[str, Adapter] = {"csv": Delimited(), "txt": Text(), "jsonl": JsonLines()}


@pytest.fixture(scope="module")
def declarations(shared_data: Path) -> dict[str, list[str]]:
    """The lines of each declaration."""
    with zipfile.ZipFile(shared_data / "udhr_zip" / "udhr.zip") as archive:
        texts = {
            name: decoded(archive.read(f"udhr/{name}").rpartition(b"\n")[0], name, "utf-8" if "UTF8" in name else "")[0]
            for name in LANGUAGES
        }
    return {name: [line.strip() for line in text.splitlines() if line.strip()] for name, text in texts.items()}


def in_format(lines: list[str], form: str) -> str:
    """The lines as a file of this format."""
    if form == "csv":
        return "id,text\n" + "".join(f'{n},"{line.replace(chr(34), chr(34) * 2)}"\n' for n, line in enumerate(lines))
    if form == "jsonl":
        return "".join(json.dumps({"id": n, "text": line}, ensure_ascii=False) + "\n" for n, line in enumerate(lines))
    return "\n".join(lines) + "\n"


def writable(lines: list[str], encoding: str) -> list[str]:
    """Returns the lines that this encoding can represent without a loss."""
    return [line for line in lines if line.encode(encoding, "replace").decode(encoding) == line]


def read_texts(adapter: Adapter, path: Path) -> list[str]:
    """The column `text` as the adapter reads this file after a plan."""
    shards = with_file_encodings(adapter, adapter.shards([SourceFile(str(path), path.name, path.stat().st_size)]))
    return [text for shard in shards for chunk in adapter.read(shard) for text in chunk.batch["text"].to_pylist()]


def cases(declarations: dict[str, list[str]]) -> Iterator[tuple[str, str, str, list[str]]]:
    """(encoding, length, format, lines) of each case."""
    for name, encodings in LANGUAGES.items():
        for encoding in encodings.split():
            lines = writable(declarations[name], encoding)
            for length, some in (("short", lines[4:7]), ("long", lines)):
                for form in FORMATS:
                    yield encoding, length, form, some


@pytest.mark.slow
def test_texts_in_thirty_encodings_are_right_or_asked(declarations, tmp_path, capsys):
    shares: dict[str, Counter[str]] = {"short": Counter(), "long": Counter()}
    wrong = []
    for encoding, length, form, lines in cases(declarations):
        path = tmp_path / f"a.{form}"
        path.write_bytes(in_format(lines, form).encode(encoding))
        try:
            found = read_texts(FORMATS[form], path)
            result = "right" if found == (lines if form != "txt" else [in_format(lines, form)]) else "wrong"
        except ChoiceNeededError as error:
            result = "asked" if "--encoding" in error.remedy else "wrong"
        shares[length][result] += 1
        if result == "wrong":
            wrong.append((encoding, length, form))
    with capsys.disabled():
        for length, counts in shares.items():
            print(f"\n{length}: " + ", ".join(f"{what} {n / counts.total():.0%}" for what, n in counts.items()))
    assert wrong == []
    assert len({encoding for encoding, *_ in cases(declarations)}) >= 25
    assert shares["long"]["right"] > 0.9 * shares["long"].total()
    assert shares["short"]["right"] > 0.6 * shares["short"].total()


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig", "iso2022_jp"]
)
@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "txt"])
def test_a_mark_or_the_form_of_the_bytes_decides(write, encoding, form):
    lines = ["これはテストです", "naive text"] if encoding == "iso2022_jp" else ["Ünï", "Все", "日本"]
    text = (
        json.dumps([{"text": line} for line in lines], ensure_ascii=False) if form == "json" else in_format(lines, form)
    )
    path = write(f"a.{form}", text.encode(encoding))
    adapter = JsonDocument() if form == "json" else FORMATS[form]
    assert read_texts(adapter, path) == ([text] if form == "txt" else lines)


@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("a.xml", '<?xml version="1.0" encoding="windows-1251"?>\n<a>Да</a>', "cp1251"),
        ("a.html", '<html><head><meta charset="shift_jis"></head>日本語</html>', "cp932"),
        ("a.html", '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-2">Łódź', "iso8859-2"),
        ("a.py", "# -*- coding: koi8-r -*-\n# Да\n", "koi8-r"),
        (
            "de.po",
            'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=ISO-8859-2\\n"\nmsgstr "Łódź"\n',
            "iso8859-2",
        ),
        ("1661-8.txt", "Title: Café\nCharacter set encoding: ISO-8859-1\n", "cp1252"),
        ("notes-Latin2.txt", "Łódź", "iso8859-2"),
    ],
)
def test_an_encoding_that_the_text_or_its_name_states_is_used(name, content, encoding):
    assert decoded(content.encode(encoding), name) == (content, encoding)


def test_the_charset_of_a_server_is_used():
    assert decoded("Łódź".encode("cp1250"), charset="windows-1250") == ("Łódź", "cp1250")


def test_a_statement_that_the_bytes_contradict_is_not_used():
    assert decoded('<meta charset="iso-8859-1">Łódź'.encode())[0].endswith("Łódź")


def test_few_bytes_are_a_question_with_the_text_in_each_encoding(write):
    path = write("a.csv", "name,city\nJosé,São Paulo\nMüller,Köln\n".encode("cp1252"))
    with pytest.raises(ChoiceNeededError) as caught:
        encoding_of(str(path), "a.csv")
    assert "cp1252: “José,São Paulo" in caught.value.message
    assert "--encoding cp1252" in caught.value.remedy
    assert encoding_of(str(path), "a.csv", "cp1252") == "cp1252"


def test_a_utf8_file_with_one_bad_line_stays_utf8(write, read):
    path = write("a.jsonl", b'{"text": "\xc3\xa9t\xc3\xa9"}\n{"text": "caf\xe9"}\n{"text": "\xd0\x94\xd0\xb0"}\n')
    found = read(JsonLines(), path)
    assert [row["text"] for row in found.rows] == ["été", "Да"]
    assert [reject.reason for reject in found.rejects] == ["line 2: not UTF-8 at byte 13"]


@pytest.mark.parametrize("form", ["csv", "txt"])
def test_a_byte_behind_the_first_megabytes_is_named_with_its_place(write, read, form):
    before = in_format(["plain words"] * 200_000, form)
    path = write(f"a.{form}", before.encode() + b'9,"caf\xe9 noir"\n')
    error = read(FORMATS[form], path).error
    if form == "txt":  # a document is decided as a whole
        assert isinstance(error, ChoiceNeededError)
        return
    assert isinstance(error, SourceDamagedError)
    assert f"a.csv is not UTF-8 at byte {len(before) + 6:,} (0xE9)" in error.message
    assert "--encoding" in error.remedy


def test_the_option_has_one_encoding_or_one_for_each_pattern():
    assert asked_for("cp1251", "a/b.txt") == "cp1251"
    assert [asked_for("*.txt=koi8-r,*.csv=big5", name) for name in ("a/b.txt", "b.csv", "c.md")] == [
        "koi8-r",
        "big5",
        "",
    ]
    with pytest.raises(InvalidOptionError, match="No encoding 'klingon'"):
        asked_for("klingon", "a.txt")


def test_the_plan_and_the_revision_have_the_encoding(write, tmp_path, capsys):
    path = write("a.csv", ("text,label\n" + f"{RUSSIAN.strip()},1\n" * 3).encode("koi8-r"))
    home = Home(tmp_path / "home")
    assert prepare(home, str(path), wishes=Wishes(encoding="koi8-r")).plan.encodings == {"a.csv": "koi8-r"}
    plan = prepare(home, str(path)).plan
    assert plan.encodings == {"a.csv": "koi8-r"}


def test_an_encoding_for_files_without_text_is_an_error(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidOptionError, match=r"no file of .* is read as text"):
        prepare(Home(tmp_path / "home"), str(tmp_path / "a.parquet"), wishes=Wishes(encoding="cp1252"))


@pytest.mark.parametrize("wrong", ["cp1252", "latin-1", "cp1251"])
@pytest.mark.parametrize(
    "text",
    [
        "Все люди рождаются свободными",
        "Όλοι οι άνθρωποι γεννιούνται",
        "すべての人間は、生まれながら",
        "人人生而自由",
        "มนุษย์ทั้งหลาย",
    ],
)
def test_double_encoded_text_is_recognised(text, wrong):
    import re

    garbled = text.encode().decode(wrong, "replace")
    assert re.search(DOUBLE_ENCODED, garbled)
    assert not re.search(DOUBLE_ENCODED, text)


def test_a_code_tree_keeps_a_file_of_unclear_encoding_as_bytes(tmp_path):
    from choline_data.adapters.source_tree import SourceTree, detect  # noqa: F401

    (tmp_path / "a.py").write_bytes(b"name = 'caf\xe9'\n")
    file = SourceFile(str(tmp_path / "a.py"), "a.py", (tmp_path / "a.py").stat().st_size)
    adapter = SourceTree()
    rows = [row for shard in adapter.shards([file]) for chunk in adapter.read(shard) for row in chunk.batch.to_pylist()]
    assert rows[0]["content"] == b"name = 'caf\xe9'\n"
    assert not rows[0]["text"]


def test_the_command_asks_with_exit_code_3(write, tmp_path, capsys):
    path = write("a.csv", "name,city\nJosé,São Paulo\nMüller,Köln\n".encode("cp1252"))
    arguments = ["add", str(path), "--home", str(tmp_path / "home"), "--as", "table"]
    assert run(arguments) == 3
    assert run([*arguments, "--encoding", "cp1252"]) == 0
    assert "encoding cp1252: a.csv" in capsys.readouterr().err


def run(arguments: list[str]) -> int:
    import sys
    from unittest import mock

    with mock.patch.object(sys, "argv", ["choline-data", *arguments]):
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


def test_numbers_in_binary_are_no_text():
    from array import array

    from choline_data.adapters.reading.encodings import looks_like_text

    assert not looks_like_text(array("i", range(440, 5000, 60)).tobytes())
    assert looks_like_text("Все люди рождаются".encode("utf-16-le"))
    assert looks_like_text("人人生而自由\n".encode("utf-32-le"))


def test_a_few_bytes_in_another_script_are_a_question():
    assert decide(bytes.fromhex("8845885c8a738bda")).encoding == ""


def test_a_warning_counts_the_documents_whose_encoding_is_not_clear(tmp_path, caplog):
    files = []
    for number in range(40):
        path = tmp_path / f"{number:02}.txt"
        path.write_bytes(bytes.fromhex("8845885c8a738bda") if number == 7 else b"A plain document in ASCII.")
        files.append(SourceFile(str(path), path.name, path.stat().st_size))
    reader = Text(unit="document")
    for shard in reader.shards(files):
        assert sum(chunk.batch.num_rows for chunk in reader.read(shard)) == 40
    (record,) = caplog.records
    assert record.getMessage().startswith("The encoding of 1 of 40 documents is not clear; the first: 07.txt.")


@pytest.mark.parametrize(("encoding", "text"), [("cp1252", "Straße"), ("cp1250", "žluťoučký"), ("iso8859-15", "5 €")])
def test_a_question_offers_the_usual_encodings_of_latin_scripts(encoding, text):
    decision = decide(f"id;name\n1;{text}\n".encode(encoding))
    assert len({guess.encoding for guess in decision.found}) == len(decision.found) < 8
    read = [guess.text for guess in decision.found if decision.encoding in ("", guess.encoding)]
    assert any(text in found for found in read)
