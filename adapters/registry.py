"""Which formats there are, and which of them reads a source.

A format is a module with `detect(source) -> list[Claim]`. Layouts (a folder or a descriptor that means something as a
whole) are asked first, in this order; each claim takes its files away from those that follow. What is left goes to the
file formats, each of which claims the files that it knows by magic bytes or extension. Modules are imported when they
are asked, and those of a file format only if an extension or magic hint says that they may be needed.

Others add a format by an entry point in the group `choline_data.adapters`: name = "module.path", level "file".
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from types import ModuleType

from choline_data.adapters.base import Adapter, Claim, Source, foreign
from choline_data.errors import MissingDependencyError, SourceFormatError
from choline_data.locations import redacted


@dataclass(frozen=True)
class Format:
    """A line of the registry. `extra` is what to install where the module's library is missing."""

    name: str
    module: str
    layout: bool = False
    extra: str = ""

    def load(self) -> ModuleType:
        """The module; MissingDependencyError where its library is not installed."""
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("choline_data"):
                raise
            raise MissingDependencyError(self.extra or "all", f"Reading {self.name}") from error


_HERE = "choline_data.adapters."
FORMATS: tuple[Format, ...] = (
    # layouts: the whole folder or descriptor
    Format("lfs", _HERE + "lfs", layout=True),
    Format("dvc", _HERE + "dvc", layout=True),
    Format("croissant", _HERE + "croissant", layout=True),
    Format("frictionless", _HERE + "frictionless", layout=True),
    Format("saved", _HERE + "hub_saved", layout=True, extra="hub"),
    Format("lance", _HERE + "lance", layout=True, extra="lance"),
    Format("mds", _HERE + "mds", layout=True),
    Format("litdata", _HERE + "litdata", layout=True),
    Format("hub", _HERE + "hub", layout=True, extra="hub"),
    Format("label-studio", _HERE + "label_studio", layout=True),
    Format("coco", _HERE + "coco", layout=True),
    Format("chatgpt", _HERE + "chatgpt", layout=True),
    Format("idx", _HERE + "idx", layout=True),
    Format("webdataset", _HERE + "webdataset", layout=True),
    Format("audio-folder", _HERE + "audio_folder", layout=True, extra="audio"),
    Format("image-folder", _HERE + "image_folder", layout=True),
    Format("source-tree", _HERE + "source_tree", layout=True),
    Format("text-folder", _HERE + "text_folder", layout=True),
    # files
    Format("parquet", _HERE + "parquet"),
    Format("arrow", _HERE + "arrow"),
    Format("sqlite", _HERE + "sqlite"),
    Format("tfrecord", _HERE + "tfrecord"),
    Format("warc", _HERE + "warc"),
    Format("conllu", _HERE + "conllu"),
    Format("jsonl", _HERE + "jsonl"),
    Format("json", _HERE + "json_document"),
    Format("csv", _HERE + "csv_table"),
    Format("archive", _HERE + "archive"),
    Format("text", _HERE + "text"),
)


def formats() -> tuple[Format, ...]:
    """Our formats, then those of installed entry points in order of name. Two of one name are refused, naming both."""
    found = {f.name: f for f in FORMATS}
    for point in sorted(entry_points(group="choline_data.adapters"), key=lambda p: p.name):
        if point.name in found:
            raise SourceFormatError(
                f"Two adapters claim the name {point.name!r}: {found[point.name].module} and {point.value}.",
                remedy="Uninstall one of them.",
            )
        found[point.name] = Format(point.name, point.value)
    return tuple(found.values())


def format_named(name: str) -> Format:
    """The format of that name, as a card's `adapter:` gives it."""
    known = {f.name: f for f in formats()}
    if name not in known:
        raise SourceFormatError(f"No adapter {name!r}.", remedy=f"There are: {', '.join(sorted(known))}.")
    return known[name]


def claims(source: Source, only: str = "") -> tuple[list[Claim], Source]:
    """Who reads what of this source, and the source of the files that nobody claimed.

    `only` asks one format alone (a card's `adapter:`, or `--format`).
    """
    taken: list[Claim] = []
    rest = source
    asked = (format_named(only),) if only else formats()
    for fmt in sorted(asked, key=lambda f: not f.layout):
        if not rest.files:
            break
        module = fmt.load()
        with foreign(redacted(rest.location)):
            found = module.detect(rest)
        for claim in found:
            taken.append(claim)
            gone = {f.name for f in claim.files} | {name for name, _ in claim.passed_over}
            rest = replace(rest, files=tuple(f for f in rest.files if f.name not in gone))
    return taken, rest


def adapter_named(name: str, **options: object) -> Adapter:
    """The adapter of a format with these options; each format module names its class `ADAPTER`."""
    made: Adapter = format_named(name).load().ADAPTER(**options)
    return made
