"""Lists the formats, and finds the formats that read a source.

A format is a module with `detect(source) -> list[FormatClaim]`. Layouts (a folder or a descriptor that has a meaning as a
whole) are asked first, in the order of `FORMATS`. The files of a claim are not offered to later formats. The remaining files go
to the file formats; each claims the files that it recognises by magic bytes or extension. A module is imported when it is
asked, and no module is asked after every file is claimed.

Third parties add a file format by an entry point in the group `choline_data.adapters`: name = "module.path".
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from types import ModuleType

from choline_data.adapters.base import Adapter, FormatClaim, Source, SourceFile, foreign
from choline_data.adapters.reading.known.identity import readers_of
from choline_data.adapters.reading.notes import without_notes
from choline_data.errors import MissingDependencyError, SourceFormatError
from choline_data.places.locations import redacted


@dataclass(frozen=True)
class RegisteredFormat:
    """An entry of the registry. `extra` is the package extra to install if the module's library is missing.

    A format `by_table` is asked only for the files that the table of known formats gives to it as their `reader`.
    """

    name: str
    module: str
    layout: bool = False
    extra: str = ""
    by_table: bool = False

    def load(self) -> ModuleType:
        """Imports the module. Raises MissingDependencyError if its library is not installed."""
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("choline_data"):
                raise
            raise MissingDependencyError(self.extra or "all", f"Reading {self.name}") from error


_HERE = "choline_data.adapters."
FORMATS: tuple[RegisteredFormat, ...] = (
    # layouts: they read a whole folder or descriptor
    RegisteredFormat("lfs", _HERE + "lfs", layout=True),
    RegisteredFormat("dvc", _HERE + "dvc", layout=True),
    RegisteredFormat("croissant", _HERE + "croissant", layout=True),
    RegisteredFormat("frictionless", _HERE + "frictionless", layout=True),
    RegisteredFormat("saved", _HERE + "hub_saved", layout=True, extra="hub"),
    RegisteredFormat("lance", _HERE + "lance", layout=True, extra="lance"),
    RegisteredFormat("mds", _HERE + "mds", layout=True),
    RegisteredFormat("litdata", _HERE + "litdata", layout=True),
    RegisteredFormat("hub", _HERE + "hub", layout=True, extra="hub"),
    RegisteredFormat("label-studio", _HERE + "label_studio", layout=True),
    RegisteredFormat("coco", _HERE + "coco", layout=True),
    RegisteredFormat("chatgpt", _HERE + "chatgpt", layout=True),
    RegisteredFormat("idx", _HERE + "idx", layout=True),
    RegisteredFormat("webdataset", _HERE + "webdataset", layout=True),
    RegisteredFormat("media-table", _HERE + "media_table", layout=True),
    RegisteredFormat("audio-folder", _HERE + "audio_folder", layout=True, extra="audio"),
    RegisteredFormat("image-folder", _HERE + "image_folder", layout=True),
    RegisteredFormat("source-tree", _HERE + "source_tree", layout=True),
    RegisteredFormat("text-folder", _HERE + "text_folder", layout=True),
    # files
    RegisteredFormat("parquet", _HERE + "parquet"),
    RegisteredFormat("arrow", _HERE + "arrow"),
    RegisteredFormat("sqlite", _HERE + "sqlite"),
    RegisteredFormat("tfrecord", _HERE + "tfrecord"),
    RegisteredFormat("warc", _HERE + "warc"),
    RegisteredFormat("conllu", _HERE + "conllu"),
    RegisteredFormat("orc", _HERE + "tables.orc", by_table=True),
    RegisteredFormat("avro", _HERE + "tables.avro", extra="avro", by_table=True),
    RegisteredFormat("duckdb", _HERE + "tables.duckdb_file", by_table=True),
    RegisteredFormat("numpy", _HERE + "tables.numpy_arrays", by_table=True),
    RegisteredFormat("excel", _HERE + "tables.excel", extra="excel", by_table=True),
    RegisteredFormat("statistics", _HERE + "tables.statistics_files", extra="statistics", by_table=True),
    RegisteredFormat("yaml", _HERE + "text_records.yaml_document", by_table=True),
    RegisteredFormat("toml", _HERE + "text_records.toml_document", by_table=True),
    RegisteredFormat("xml", _HERE + "text_records.xml_records", by_table=True),
    RegisteredFormat("bibtex", _HERE + "text_records.bibtex", by_table=True),
    RegisteredFormat("pgn", _HERE + "text_records.chess_games", by_table=True),
    RegisteredFormat("mail", _HERE + "text_records.mails", by_table=True),
    RegisteredFormat("arff", _HERE + "text_records.arff", by_table=True),
    RegisteredFormat("conll", _HERE + "text_records.tagged_tokens", by_table=True),
    RegisteredFormat("fasttext", _HERE + "text_records.labelled_lines", by_table=True),
    RegisteredFormat("libsvm", _HERE + "text_records.libsvm", by_table=True),
    RegisteredFormat("subtitles", _HERE + "text_records.subtitles", by_table=True),
    RegisteredFormat("fasta", _HERE + "text_records.fasta", by_table=True),
    RegisteredFormat("fastq", _HERE + "text_records.fastq", by_table=True),
    RegisteredFormat("jsonl", _HERE + "jsonl"),
    RegisteredFormat("json", _HERE + "json_document"),
    RegisteredFormat("csv", _HERE + "csv_table"),
    RegisteredFormat("archive", _HERE + "archive"),
    RegisteredFormat("text", _HERE + "text"),
)


def formats() -> tuple[RegisteredFormat, ...]:
    """Our formats, then those of installed entry points in order of name.

    Raises SourceFormatError if two formats have the same name; the message names both modules.
    """
    found = {f.name: f for f in FORMATS}
    for point in sorted(entry_points(group="choline_data.adapters"), key=lambda p: p.name):
        if point.name in found:
            raise SourceFormatError(
                f"Two adapters claim the name {point.name!r}: {found[point.name].module} and {point.value}.",
                remedy="Uninstall one of them.",
            )
        found[point.name] = RegisteredFormat(point.name, point.value)
    return tuple(found.values())


def format_named(name: str) -> RegisteredFormat:
    """The format with this name, as written in a card's `adapter:`. Raises SourceFormatError if there is none."""
    known = {f.name: f for f in formats()}
    if name not in known:
        raise SourceFormatError(f"No adapter {name!r}.", remedy=f"There are: {', '.join(sorted(known))}.")
    return known[name]


def claims(source: Source, only: str = "") -> tuple[list[FormatClaim], Source]:
    """The claims of all formats on this source, and a source with the files that no format claimed.

    With `only`, asks just that format (a card's `adapter:`, or `--format`).
    """
    taken: list[FormatClaim] = []
    rest = source
    asked = (format_named(only),) if only else formats()
    by_reader: Mapping[str, Sequence[SourceFile]] | None = None
    for fmt in sorted(asked, key=lambda f: not f.layout):
        if not rest.files:
            break
        offered = rest
        if fmt.by_table and not only:
            by_reader = readers_of(rest.files) if by_reader is None else by_reader
            offered = replace(rest, files=tuple(by_reader.get(fmt.name, ())))
            if not offered.files:
                continue
        module = fmt.load()
        with foreign(redacted(rest.location)):
            found = module.detect(offered)
        for claim in found:
            taken.append(claim)
            gone = {f.name for f in claim.files} | {name for name, _ in (*claim.passed_over, *claim.described)}
            rest = replace(rest, files=tuple(f for f in rest.files if f.name not in gone))
    return taken if only else without_notes(taken), rest


def adapter_named(name: str, **options: object) -> Adapter:
    """The adapter of a format with these options. Each format module has its adapter class as `ADAPTER`."""
    made: Adapter = format_named(name).load().ADAPTER(**options)
    return made
