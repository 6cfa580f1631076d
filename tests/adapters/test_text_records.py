"""Formats of text records, on files that other libraries wrote, and on damaged ones. Truth comes from an independent reader."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.text_records.arff import Arff
from choline_data.adapters.text_records.fasta import Fasta
from choline_data.adapters.text_records.fastq import Fastq
from choline_data.adapters.text_records.labelled_lines import FastText
from choline_data.adapters.text_records.libsvm import LibSvm
from choline_data.adapters.text_records.subtitles import Subtitles
from choline_data.adapters.text_records.tagged_tokens import TaggedTokens
from choline_data.adapters.text_records.toml_document import TomlDocument
from choline_data.adapters.text_records.yaml_document import YamlDocument
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import Wishes, plan_source
from choline_data.errors import DataError, SourceDamagedError

SAMPLES: dict[str, tuple[Adapter, str, str]] = {
    "arff": (Arff(), "a.arff", "@relation r\n@attribute x numeric\n@attribute 'the name' {a,'b c'}\n@data\n"
                               "% a comment\n1,a\n2.5,'b c'\n?,?\n"),
    "fasta": (Fasta(), "a.fa", ">s1 a protein\nMKV\nLAT\n>s2\n\nMKK\n>empty\n"),
    "fastq": (Fastq(), "a.fq", "@r1 first\nACGT\n+r1\nII@I\n@r2\nAC\nGT\n+\n@+\nII\n"),
    "fasttext": (FastText(), "a.txt", "__label__good I liked it\n__label__bad __label__long No, not at all\n"),
    "libsvm": (LibSvm(), "a.libsvm", "1 1:0.5 3:1 # a comment\n-1 qid:4 2:0.25\n1,2 7:1e-3\n"),
    "subtitles": (Subtitles(), "a.srt",
                  "1\n00:00:01,500 --> 00:00:02,000\nHello\nthere\n\n2\n01:00:00,001 --> 01:00:01,000\nBye\n"),
    "conll": (TaggedTokens(), "a.conll", "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nsays VBZ B-VP O\n\nYes UH O O\n"),
    "toml": (TomlDocument(), "a.toml", '[[rows]]\nname = "a"\nday = 2024-01-05\n[[rows]]\nname = "b"\n'),
    "yaml": (YamlDocument(), "a.yaml", "- {name: a, size: 1}\n- {name: b, size: 2}\n"),
}  # fmt: skip
FOUND: dict[str, list[dict[str, Any]]] = {
    "arff": [{"x": 1.0, "the name": "a"}, {"x": 2.5, "the name": "b c"}, {"x": None, "the name": None}],
    "fasta": [{"id": "s1", "description": "a protein", "sequence": "MKVLAT"}, {"id": "s2", "description": "", "sequence": "MKK"},
              {"id": "empty", "description": "", "sequence": ""}],
    "fastq": [{"id": "r1", "description": "first", "sequence": "ACGT", "quality": "II@I"},
              {"id": "r2", "description": "", "sequence": "ACGT", "quality": "@+II"}],
    "fasttext": [{"text": "I liked it", "label": "good", "labels": ["good"]},
                 {"text": "No, not at all", "label": "bad", "labels": ["bad", "long"]}],
    "libsvm": [{"label": 1.0, "labels": None, "query": None, "indices": [1, 3], "values": [0.5, 1.0], "comment": "a comment"},
               {"label": -1.0, "labels": None, "query": "4", "indices": [2], "values": [0.25], "comment": None},
               {"label": None, "labels": [1.0, 2.0], "query": None, "indices": [7], "values": [0.001], "comment": None}],
    "subtitles": [{"text": "Hello\nthere", "start": 1.5, "end": 2.0, "cue": "1", "settings": None},
                  {"text": "Bye", "start": 3600.001, "end": 3601.0, "cue": "2", "settings": None}],
    "conll": [{"document": 0, "tokens": ["EU", "says"], "pos_tags": ["NNP", "VBZ"], "chunk_tags": ["B-NP", "B-VP"],
               "ner_tags": ["B-ORG", "O"]},
              {"document": 0, "tokens": ["Yes"], "pos_tags": ["UH"], "chunk_tags": ["O"], "ner_tags": ["O"]}],
    "toml": [{"name": "a", "day": "2024-01-05"}, {"name": "b", "day": None}],
    "yaml": [{"name": "a", "size": 1}, {"name": "b", "size": 2}],
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_each_record_has_its_values(name: str, read: Callable[..., Any], write: Callable[..., Path]) -> None:
    adapter, file, content = SAMPLES[name]
    found = read(adapter, write(file, content))
    rows = [row for chunk in found.chunks for row in chunk.batch.to_pylist()]
    assert found.error is None
    assert rows == FOUND[name]


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("end", ["", "\n\n", "crlf"])
def test_line_ends_do_not_change_the_records(
    name: str, end: str, read: Callable[..., Any], write: Callable[..., Path]
) -> None:
    adapter, file, content = SAMPLES[name]
    text = content.rstrip("\n") + end if end != "crlf" else content.replace("\n", "\r\n")
    assert read(adapter, write(file, "\ufeff" + text)).rows == read(adapter, write("b" + file, content)).rows


@pytest.mark.parametrize("name", SAMPLES)
def test_the_plain_command_finds_the_format(name: str, write: Callable[..., Path]) -> None:
    adapter, file, content = SAMPLES[name]
    plan = plan_source(resolve(str(write(file, content))), "x", Wishes())
    assert [type(part.adapter) for part in plan.parts] == [type(adapter)]


@pytest.mark.parametrize("name", ["arff", "fasta", "fastq", "fasttext", "libsvm", "subtitles", "conll"])
def test_the_content_is_known_under_another_name(name: str, write: Callable[..., Path]) -> None:
    adapter, _, content = SAMPLES[name]
    plan = plan_source(resolve(str(write("data.txt", content))), "x", Wishes())
    assert [type(part.adapter) for part in plan.parts] == [type(adapter)]


@pytest.mark.parametrize("name", SAMPLES)
def test_another_encoding_is_read_or_asked_about(
    name: str, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    adapter, file, content = SAMPLES[name]
    path = write(file, re.sub("[aei](?![a-z]*_)", "ä", content).encode("cp1252"))
    given = read(dataclasses.replace(adapter, encoding="cp1252"), path)  # type: ignore[type-var]
    assert "ä" in str(given.rows) or given.error is not None
    wide = read(adapter, write("wide" + file, content.encode("utf-16")))
    assert wide.rows == read(adapter, write("plain" + file, content)).rows
    found = read(adapter, path)
    assert found.error is not None or found.rows == given.rows


@pytest.mark.parametrize("name", ["toml", "yaml"])
@pytest.mark.parametrize("content", ["a: [1, 2\n", "a = [1, 2\n", "\t- x: y: z\n"])
def test_a_torn_document_is_an_error(
    name: str, content: str, read: Callable[..., Any], write: Callable[..., Path]
) -> None:
    adapter, file, _ = SAMPLES[name]
    assert isinstance(read(adapter, write(file, content)).error, DataError)


def test_a_file_that_ends_within_a_read_is_damaged(read: Callable[..., Any], write: Callable[..., Path]) -> None:
    found = read(Fastq(), write("a.fq", "@r1\nACGT\n+\nIIII\n@r2\nACGT\n+\nII"))
    assert isinstance(found.error, SourceDamagedError)
    assert [row["id"] for row in found.rows] == ["r1"]


@pytest.mark.parametrize("content", ["@relation r\n@attribute x numeric\n", "@relation r\n@data\n1\n"])
def test_an_arff_file_without_a_header_is_damaged(
    content: str, read: Callable[..., Any], write: Callable[..., Path]
) -> None:
    assert isinstance(read(Arff(), write("a.arff", content)).error, SourceDamagedError)


@pytest.mark.parametrize(
    ("adapter", "content", "reason"),
    [
        (Arff(), "@relation r\n@attribute x numeric\n@data\n1\nx\n1,2\n", "line 5"),
        (LibSvm(), "1 1:2\n1 x:2\n", "line 2"),
        (FastText(), "__label__a b\nno label\n", "line 2"),
        (Fastq(), "@r\nAC\n+\nII\n@s\nAC\n+\nIIII\n", "quality values"),
        (TaggedTokens(), "a B-X\nb O\n\nc B-X\nd\n", "number of columns"),
        (Subtitles(), "1\n00:00:01,000 --> 00:00:02,000\nHi\n\nno times here\n", "no line of times"),
    ],
)
def test_a_bad_record_is_rejected_with_its_place(
    adapter: Adapter, content: str, reason: str, read: Callable[..., Any], write: Callable[..., Path]
) -> None:
    found = read(adapter, write("a.txt", content))
    assert len(found.rows) == 1
    assert reason in found.rejects[0].reason


def test_a_sparse_instance_is_filled_up(read: Callable[..., Any], write: Callable[..., Path]) -> None:
    header = "@relation r\n@attribute x numeric\n@attribute k {no,yes}\n@attribute n integer\n@data\n"
    found = read(Arff(), write("a.arff", header + "{1 yes, 2 5}\n{}\n{0 ?}\n"))
    assert [list(row.values()) for row in found.rows] == [[0.0, "yes", 5], [0.0, "no", 0], ["no", 0]]


def test_arff_agrees_with_scipy(
    shared_data: Path, read: Callable[..., Any], source_file: Callable[..., SourceFile]
) -> None:
    import gzip
    import io as stdio

    from scipy.io import arff

    for path in sorted((shared_data / "second" / "arff").glob("*.gz")):
        text = gzip.decompress(path.read_bytes()).decode()
        data, meta = arff.loadarff(stdio.StringIO(text))
        found = read(Arff(), path)
        assert found.error is None
        assert found.rejects == []
        assert len(found.rows) == len(data)
        for name in meta.names():
            column = [row.get(name) for row in found.rows]
            if meta[name][0] == "numeric":
                assert np.array_equal(np.array(column, float), data[name], equal_nan=True)
            else:
                assert [value or "?" for value in column] == [value.decode() for value in data[name]]


def test_libsvm_agrees_with_scikit_learn(tmp_path: Path, read: Callable[..., Any]) -> None:
    from sklearn.datasets import dump_svmlight_file, load_svmlight_file

    rng = np.random.default_rng(1)
    data = rng.normal(size=(200, 30)) * (rng.random((200, 30)) < 0.2)
    dump_svmlight_file(data, rng.integers(0, 2, 200), str(tmp_path / "a.svm"), zero_based=False)
    found = read(LibSvm(), tmp_path / "a.svm")
    matrix, labels = load_svmlight_file(str(tmp_path / "a.svm"), zero_based=False)
    assert [row["label"] for row in found.rows] == labels.tolist()
    for row, truth in zip(found.rows, matrix, strict=True):
        assert [i - 1 for i in row["indices"]] == truth.indices.tolist()
        assert row["values"] == truth.data.tolist()


def test_yaml_that_pyyaml_wrote_comes_back(tmp_path: Path, read: Callable[..., Any]) -> None:
    rows = [
        {"name": f"row {n}", "size": n, "tags": ["x", "y: z"], "text": "two\nlines: of\n- text\n"} for n in range(50)
    ]
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(rows, allow_unicode=True))
    assert read(YamlDocument(), tmp_path / "a.yaml").rows == rows
    (tmp_path / "b.yaml").write_text(yaml.safe_dump_all(rows))
    assert read(YamlDocument(), tmp_path / "b.yaml").rows == rows


def test_a_line_of_times_begins_a_cue_without_a_blank_line(
    read: Callable[..., Any], write: Callable[..., Path]
) -> None:
    cues = "1\n00:01.000 --> 00:02.000\nOne\n2\n00:02.000 --> 00:03.000\n00:03.000 --> 00:04.000\nThree\nlines\n"
    found = read(Subtitles(), write("a.vtt", "WEBVTT\n\n" + cues))
    assert [(row.get("cue"), row["start"], row["text"]) for row in found.rows] == [
        ("1", 1.0, "One"),
        ("2", 2.0, ""),
        (None, 3.0, "Three\nlines"),
    ]


def test_lists_of_turns_are_rows_of_a_chat(write: Callable[..., Path]) -> None:
    turns = (
        "conversations:\n- - Hello\n  - Hi\n- - How old are you?\n  - 7\n- - Bye\n- No dash here\n- - So?\n  - true\n"
    )
    plan = plan_source(resolve(str(write("a.yml", "categories:\n- talk\n- small talk\n" + turns))), "x", Wishes())
    assert plan.kind == "chat"
    (part,) = plan.parts
    rows = [row["conversations"] for c in part.adapter.read(part.shards[0]) for row in c.batch.to_pylist()]
    assert rows == [["Hello", "Hi"], ["How old are you?", "7"], ["Bye"], ["No dash here"], ["So?", "true"]]


@pytest.mark.parametrize(
    ("turns", "rows"),
    [
        ("- - Hello\n  - Hi\n", [["Hello", "Hi"]]),
        (
            "- - Hello\n  - Hi\n- talk\n  - to me\n- - So?\n  - Yes\n",
            [["Hello", "Hi"], ["talk - to me"], ["So?", "Yes"]],
        ),
    ],
)
def test_a_single_list_and_lists_with_many_words_beside_them_are_rows(
    read: Callable[..., Any], write: Callable[..., Path], turns: str, rows: list[list[str]]
) -> None:
    found = read(YamlDocument(), write("a.yml", "categories:\n- talk\nconversations:\n" + turns))
    assert [row["conversations"] for row in found.rows] == rows


def test_a_yaml_bomb_is_refused(read: Callable[..., Any], write: Callable[..., Path]) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(8)
    )
    assert isinstance(read(YamlDocument(), write("a.yaml", bomb)).error, DataError)


class TestArff(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return Arff()

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        rows = "".join(f"{n},{'x' if n % 7 else 'bad,'}\n" for n in range(9000))
        return [source_file(write("a.arff", "@relation r\n@attribute n numeric\n@attribute s string\n@data\n" + rows))]


class TestFasta(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return Fasta()

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        return [source_file(write(f"{n}.fa", ">s text\nACGT\n" * 5000)) for n in range(2)]


class TestSubtitles(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return Subtitles()

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        cues = "".join(f"{n}\n00:00:0{n % 9},000 --> 00:00:09,000\nCue {n}\n\n" for n in range(500))
        return [source_file(write("a.vtt", "WEBVTT\n\nNOTE none\n\n" + cues + "torn\n\n" + cues))]
