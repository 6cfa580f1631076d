"""The self-check of packed formats and text records: a wrong reader fails the add, and a right one never does."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.catalog.test_self_check import _planted, _rolled, _with_cut_values, add

from choline_data.adapters.base import SourceChunk
from choline_data.adapters.coco import Coco
from choline_data.adapters.conllu import ConllU
from choline_data.adapters.litdata import LitData
from choline_data.adapters.mds import Mds
from choline_data.adapters.text_records.fasta import Fasta
from choline_data.adapters.text_records.fastq import Fastq
from choline_data.adapters.text_records.labelled_lines import FastText
from choline_data.adapters.text_records.libsvm import LibSvm
from choline_data.adapters.text_records.subtitles import Subtitles
from choline_data.adapters.text_records.tagged_tokens import TaggedTokens
from choline_data.adapters.tfrecord import TfRecord, masked_crc32c
from choline_data.adapters.warc import Warc
from choline_data.catalog.self_check.against_source import check_stored
from choline_data.errors import SelfCheckError

WORDS = [f"It was the {n}th night, and nobody came." for n in range(20)]


def _sized(number: int, data: bytes) -> bytes:
    """A field of protobuf."""
    size = b""
    length = len(data)
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + data


def _tfrecord(folder: Path) -> None:
    out = b""
    for number, words in enumerate(WORDS):
        text = _sized(1, _sized(1, b"words") + _sized(2, _sized(1, _sized(1, words.encode()))))
        count = _sized(1, _sized(1, b"number") + _sized(2, _sized(3, _sized(1, bytes([number])))))
        record = _sized(1, text + count)
        head = struct.pack("<Q", len(record))
        out += head + struct.pack("<I", masked_crc32c(head)) + record + struct.pack("<I", masked_crc32c(record))
    (folder / "x.tfrecord").write_bytes(out)


def _warc(folder: Path) -> None:
    records = b""
    for number, words in enumerate(WORDS):
        body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + words.encode()
        records += (
            (
                f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{number}-abcdef-abcdef>\r\n"
                f"WARC-Target-URI: http://example.org/{number}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
                f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(body)}\r\n\r\n"
            ).encode()
            + body
            + b"\r\n\r\n"
        )
    (folder / "x.warc").write_bytes(records)


def _rows_of_cells(rows: list[tuple[bytes, int]], *, fixed: bool) -> bytes:
    """A shard of rows with a text and a number. With `fixed`, the number's size is not stored."""
    packed = [
        struct.pack("<I" if fixed else "<2I", len(text), *([] if fixed else [8])) + text + struct.pack("<q", n)
        for text, n in rows
    ]
    at = 4 + 4 * (len(rows) + 1)
    offsets = [at]
    for row in packed:
        offsets.append(offsets[-1] + len(row))
    return struct.pack(f"<{len(rows) + 2}I", len(rows), *offsets) + b"".join(packed)


def _mds(folder: Path) -> None:
    data = _rows_of_cells([(words.encode(), n) for n, words in enumerate(WORDS)], fixed=True)
    (folder / "shard.00000.mds").write_bytes(data)
    shard = {
        "column_encodings": ["str", "int"],
        "column_names": ["text", "n"],
        "column_sizes": [None, 8],
        "compression": None,
        "format": "mds",
        "hashes": [],
        "raw_data": {"basename": "shard.00000.mds", "bytes": len(data), "hashes": {}},
        "samples": len(WORDS),
        "size_limit": 1 << 26,
        "version": 2,
        "zip_data": None,
    }
    (folder / "index.json").write_text(json.dumps({"shards": [shard], "version": 2}))


def _litdata(folder: Path) -> None:
    data = _rows_of_cells([(words.encode(), n) for n, words in enumerate(WORDS)], fixed=False)
    (folder / "chunk-0-0.bin").write_bytes(data)
    chunk = {"chunk_bytes": len(data), "chunk_size": len(WORDS), "dim": None, "filename": "chunk-0-0.bin"}
    spec = json.dumps([1, {"type": "builtins.dict", "context": '["text", "n"]', "children_spec": []}])
    config = {"data_format": ["str", "int"], "data_spec": spec, "compression": None, "encryption": None}
    (folder / "index.json").write_text(json.dumps({"chunks": [chunk], "config": config}))


def _coco(folder: Path) -> None:
    rows = [{"image_id": n, "caption": words} for n, words in enumerate(WORDS)]
    (folder / "x.json").write_text(json.dumps(rows))


def _conllu(folder: Path) -> None:
    line = "{n}\t{word}\t{lemma}\tX\t_\t_\t0\troot\t_\t_"
    sentences = [
        [
            f"# text = {words}",
            *(
                line.format(n=n, word=f"{w}-{at:03d}-night", lemma=f"{w}-{at:03d}-lemma")
                for n, w in enumerate(words.split(), 1)
            ),
        ]
        for at, words in enumerate(WORDS)
    ]
    (folder / "x.conllu").write_text("".join("\n".join(sentence) + "\n\n" for sentence in sentences))


def _conll(folder: Path) -> None:
    sentences = [[f"{word}-{at:03d}-night X O B-LOC" for word in words.split()] for at, words in enumerate(WORDS)]
    (folder / "x.conll").write_text("".join("\n".join(sentence) + "\n\n" for sentence in sentences))


def _subtitles(folder: Path) -> None:
    cues = [f"{n + 1}\n00:00:{n:02d},000 --> 00:00:{n:02d},500\n{words}\n\n" for n, words in enumerate(WORDS)]
    (folder / "x.srt").write_text("".join(cues))


def _fasta(folder: Path) -> None:
    (folder / "x.fasta").write_text("".join(f">s{n} of a sea\n{'ACGT' * (n + 3)}\n{'TTT' * n}\n" for n in range(20)))


def _fastq(folder: Path) -> None:
    (folder / "x.fastq").write_text("".join(f"@s{n}\n{'ACGT' * (n + 3)}\n+\n{'IIII' * (n + 3)}\n" for n in range(20)))


def _fasttext(folder: Path) -> None:
    lines = (f"__label__{'ab'[n % 2]} {words}\n" for n, words in enumerate(WORDS))
    (folder / "x.fasttext").write_text("".join(lines))


def _libsvm(folder: Path) -> None:
    (folder / "x.svm").write_text(
        "# a comment\n" + "".join(f"{n % 2} 1:{n + 0.5} {n + 2}:1.5 # row\n" for n in range(20))
    )


# name: (what makes the source, the adapter that reads it, the faults that the check sees)
SOURCES: dict[str, tuple[Callable[[Path], None], type, tuple[str, ...]]] = {
    "TFRecord": (_tfrecord, TfRecord, ("rolled", "cut")),
    "WARC": (_warc, Warc, ("rolled", "cut")),
    "MDS": (_mds, Mds, ("rolled", "cut")),
    "LitData": (_litdata, LitData, ("rolled", "cut")),
    "COCO": (_coco, Coco, ("rolled", "cut")),
    "CoNLL-U": (_conllu, ConllU, ("rolled", "cut")),
    "CoNLL": (_conll, TaggedTokens, ("rolled", "cut")),
    "subtitles": (_subtitles, Subtitles, ("rolled", "cut")),
    "FASTA": (_fasta, Fasta, ("rolled", "cut")),
    "FASTQ": (_fastq, Fastq, ("rolled", "cut")),
    "fastText": (_fasttext, FastText, ("rolled", "cut")),
    "LIBSVM": (_libsvm, LibSvm, ("rolled",)),
}
FAULTS: dict[str, Callable[[SourceChunk], SourceChunk]] = {"rolled": _rolled, "cut": _with_cut_values}


@pytest.mark.parametrize("name", SOURCES)
def test_a_right_reader_passes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(
        "choline_data.catalog.self_check.against_source.check_stored",
        lambda *all_: compared.append(check_stored(*all_)),
    )
    folder = tmp_path / "source"
    folder.mkdir()
    SOURCES[name][0](folder)
    assert add(folder) == 20
    assert compared[0] >= 6


@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name, (*_, faults) in SOURCES.items() for fault in faults]
)
def test_a_wrong_reader_of_records_fails_the_add(
    name: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    SOURCES[name][0](folder)
    _planted(SOURCES[name][1], FAULTS[fault], monkeypatch)
    with pytest.raises(SelfCheckError, match="An independent reader read it otherwise"):
        add(folder)


def test_the_count_of_an_avro_file_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fastavro = pytest.importorskip("fastavro")
    from tests.catalog.test_self_check import _without_end

    from choline_data.adapters.tables.avro import Avro

    folder = tmp_path / "source"
    folder.mkdir()
    schema = {"type": "record", "name": "x", "fields": [{"name": "text", "type": "string"}]}
    with (folder / "x.avro").open("wb") as out:
        fastavro.writer(out, schema, [{"text": words} for words in WORDS], codec="deflate", sync_interval=100)
    assert add(folder) == 20
    _planted(Avro, _without_end, monkeypatch)
    with pytest.raises(SelfCheckError, match="the source has 20 rows"):
        add(folder)
