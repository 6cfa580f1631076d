"""Reads a few rows of a shard by code that shares nothing with the adapters: `json`, `csv`, `zipfile`, pyarrow's own
readers.

A reader yields rows near the start of a shard, and more from its middle and its end where that is cheap. If no reader
can read a shard, no rows are yielded, and nothing is compared.
"""

from __future__ import annotations

import csv
import lzma
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator

import pyarrow as pa

from choline_data.adapters.base import Adapter, Shard
from choline_data.catalog.self_check import (
    read_documents,
    read_media,
    read_packed,
    read_records,
    read_tables,
    read_text,
)
from choline_data.catalog.self_check.source_files import SourceFiles, is_local
from choline_data.catalog.self_check.source_row import Reader, SourceRow

# if the independent reader fails, this shows nothing about the adapter
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    ImportError,
    RecursionError,
    NotImplementedError,  # a compression or feature that this reader does not have
    pa.ArrowException,
    csv.Error,
    sqlite3.Error,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
)


def rows_of(files: SourceFiles, adapter: Adapter, shard: Shard) -> Iterator[SourceRow]:
    """Yields some rows of the shard, read without the adapter. Yields nothing if there is no other way to read them."""
    reader = READERS.get(type(adapter).__name__)
    if reader is None or not is_local(shard.path):
        return
    try:
        yield from reader(files, adapter, shard)
    except _UNREADABLE:
        return


def count_of(files: SourceFiles, adapter: Adapter, shard: Shard) -> int:
    """Returns the number of rows of the shard if the source states it; -1 if it does not."""
    counter = COUNTERS.get(type(adapter).__name__)
    if counter is None or not is_local(shard.path):
        return -1
    try:
        return counter(files, shard)
    except _UNREADABLE:
        return -1


COUNTERS: dict[str, Callable[[SourceFiles, Shard], int]] = {
    "Parquet": read_tables.parquet_rows,
    "Sqlite": read_tables.sqlite_rows,
    "Avro": read_packed.avro_rows,
}
# By the name of the adapter's class.
READERS: dict[str, Reader] = {
    "Parquet": read_tables.parquet,
    "ArrowFile": read_tables.arrow,
    "Delimited": read_tables.delimited,
    "Sqlite": read_tables.sqlite,
    "JsonLines": read_text.json_lines,
    "JsonDocument": read_text.json_document,
    "Text": read_text.text,
    "Notebooks": read_documents.notebooks,
    "HtmlPages": read_documents.pages,
    "ParallelTexts": read_documents.parallel_texts,
    "Idx": read_media.idx,
    "ImageFolder": read_media.media("image"),
    "AudioFolder": read_media.media("audio"),
    "WebDataset": read_media.webdataset,
    "TfRecord": read_packed.tfrecord,
    "Warc": read_packed.warc,
    "Mds": read_packed.mds,
    "LitData": read_packed.litdata,
    "Coco": read_packed.coco,
    "ConllU": read_records.conllu,
    "TaggedTokens": read_records.tagged_tokens,
    "Subtitles": read_records.subtitles,
    "Fasta": read_records.fasta,
    "Fastq": read_records.fastq,
    "FastText": read_records.fasttext,
    "LibSvm": read_records.libsvm,
}
