"""Reads Frictionless data packages. datapackage.json or .yml describes the tables, their file formats and column types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile, from_row
from choline_data.adapters.reading import text_columns
from choline_data.adapters.reading.documents import chunks_of, document, one_shard_each
from choline_data.adapters.reading.io import open_raw, pieces
from choline_data.adapters.reading.names import is_about
from choline_data.adapters.reading.splits import described
from choline_data.adapters.reading.text_columns import Table
from choline_data.adapters.text import Text
from choline_data.errors import InvalidOptionError, SourceFormatError, SourceNotFoundError
from choline_data.places.yaml_safe import safe_load

_PLAIN = Table()
_NAMES = ("datapackage.json", "datapackage.yml", "datapackage.yaml")


@dataclass(frozen=True)
class Resource:
    """Reads the files of one resource as its descriptor specifies. A row with a value of a wrong type is rejected."""

    table: Table = _PLAIN

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns a shard for each file."""
        return one_shard_each(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from `start` on."""
        return from_row(start, text_columns.chunks(self.table, pieces(shard.path, shard.name), shard.origin))


@dataclass(frozen=True)
class Inline:
    """Reads the rows of a resource whose data are in the descriptor itself."""

    resource: int = 0

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns a shard for the descriptor."""
        return one_shard_each(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from `start` on."""
        package = _package(SourceFile(shard.path, shard.name))
        data = package["resources"][self.resource]["data"]
        if data and isinstance(data[0], list):
            data = [dict(zip(map(str, data[0]), row, strict=False)) for row in data[1:]]
        return chunks_of(data, shard.origin, start=start)


ADAPTER = Resource


def detect(source: Source) -> list[FormatClaim]:
    """Returns a claim for each resource of each package."""
    claims: list[FormatClaim] = []
    for file in source.files:
        if file.name.rsplit("/", 1)[-1] in _NAMES:
            package = _package(file)
            if isinstance(package.get("resources"), list):
                claims += _claims(described(source), file, package)
    return claims


def _package(file: SourceFile) -> dict[str, Any]:
    if file.name.endswith(".json"):
        data = document(file.path, file.name, limit=64 << 20)
    else:
        with open_raw(file.path) as opened:
            data = safe_load(opened.read(32 << 20), file.name)
    return data if isinstance(data, dict) else {}


def _claims(source: Source, file: SourceFile, package: dict[str, Any]) -> list[FormatClaim]:
    from choline_data.adapters.registry import claims
    from choline_data.licenses import spdx_of

    by_name = {f.name: f for f in source.files}
    folder = PurePosixPath(file.name).parent
    stated = package.get("licenses") or [{}]
    first = stated[0] if isinstance(stated, list) and isinstance(stated[0], dict) else {}
    license_ = spdx_of(str(first.get("name") or first.get("path") or ""))
    resources: list[FormatClaim] = []
    wanted = source.options.get("config")
    prefix = package.get("name") or folder.name
    several = sum(f.name.rsplit("/", 1)[-1] in _NAMES for f in source.files) > 1
    over: list[tuple[str, str]] = []
    described = [(file.name, "the package's descriptor")]
    described += [
        (f.name, "the package's README")
        for f in source.files
        if PurePosixPath(f.name).parent == folder and f.name.lower().endswith("readme.md")
    ]
    not_chosen = {name for name, _ in source.left_out}
    for number, resource in enumerate(package["resources"]):
        if not isinstance(resource, dict):
            raise SourceFormatError(
                f"{file.name}: resource {number} is not an object.", remedy="Correct the descriptor."
            )
        name = str(resource.get("name") or number)
        config = f"{prefix}/{name}" if several else name
        evidence = f"resource {name!r} of {file.name}"
        if isinstance(resource.get("data"), list):
            claims_here = [FormatClaim(Inline(number), (file,), 1.0, evidence, kind="tabular")]
            files: tuple[SourceFile, ...] = ()
        else:
            if not_chosen.intersection(str(folder / path) for path in _paths(resource)):
                continue
            files = tuple(_file(p, folder, by_name, file.name, name) for p in _paths(resource))
            if _delimited(resource, files):
                table = _table(resource, package, files[0].name)
                claims_here = [FormatClaim(Resource(table), files, 1.0, evidence, kind="tabular")]
            elif _is_text(resource):
                claims_here = [FormatClaim(Text(), files, 1.0, evidence, kind="text")]
            else:
                claims_here = [
                    replace(c, evidence=f"{evidence}: {c.evidence}")
                    for c in claims(replace(source, files=files, options={}))[0]
                ]
        if wanted and wanted not in (config, name):
            over += [(f.name, "of a resource that was not asked for") for f in files]
            continue
        resources += [replace(c, score=1.0, config=config, license=license_) for c in claims_here]
    if wanted and not resources:
        raise InvalidOptionError(f"{file.name} has no resource {wanted!r}.", remedy="Look at its `resources`.")
    if resources:
        over += _unlisted(source, folder, package, {name for name, _ in described})
        resources[0] = replace(resources[0], passed_over=tuple(over), described=tuple(described))
    return resources


def _is_text(resource: dict[str, Any]) -> bool:
    """Returns whether the package states that a resource is plain text. Then each file is one document."""
    media = str(resource.get("mediatype") or "").lower()
    return str(resource.get("format") or "").lower() in ("text", "txt") or media in ("text/plain", "plain/text")


def _unlisted(
    source: Source, folder: PurePosixPath, package: dict[str, Any], described: set[str]
) -> list[tuple[str, str]]:
    """Returns the files in the package's folder that its descriptor does not list. Folders with a descriptor of their own stay."""
    own = [PurePosixPath(f.name).parent for f in source.files if f.name.rsplit("/", 1)[-1] in _NAMES]
    own.remove(folder)
    listed = {str(folder / path) for resource in package["resources"] for path in _paths(resource)} | described
    return [
        (f.name, "the package's descriptor does not list it")
        for f in source.files
        if PurePosixPath(f.name).is_relative_to(folder)
        and f.name not in listed
        and not is_about(f.name)
        and not any(PurePosixPath(f.name).is_relative_to(other) for other in own)
    ]


def _paths(resource: dict[str, Any]) -> list[str]:
    path = resource.get("path")
    return [str(p) for p in path] if isinstance(path, list) else [str(path)] if path else []


def _file(path: str, folder: PurePosixPath, by_name: dict[str, SourceFile], where: str, name: str) -> SourceFile:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise SourceFormatError(
            f"{where}: resource {name!r} names {path!r}, outside the package.",
            remedy="Put the file within the package.",
        )
    file = by_name.get(str(folder / path))
    if file is None:
        raise SourceNotFoundError(
            f"{where}: {path}, of resource {name!r}, is not there.",
            remedy="Add the folder of the whole package, and fetch what it names by URL.",
        )
    return file


def _delimited(resource: dict[str, Any], files: tuple[SourceFile, ...]) -> bool:
    stated = str(resource.get("format") or "").lower() or (files[0].name if files else "")
    return stated.rsplit(".", 1)[-1] in ("csv", "tsv", "tab") or ".csv." in stated


def _table(resource: dict[str, Any], package: dict[str, Any], name: str) -> Table:
    dialect = resource.get("dialect") if isinstance(resource.get("dialect"), dict) else package.get("dialect") or {}
    dialect = dialect.get("csv", dialect) if isinstance(dialect, dict) else {}
    schema = resource.get("schema") if isinstance(resource.get("schema"), dict) else {}
    fields = [f for f in (schema or {}).get("fields") or [] if isinstance(f, dict)]
    plain = [f for f in fields if not f.get("decimalChar") and not f.get("groupChar") and f.get("bareNumber", True)]
    missing = (schema or {}).get("missingValues", [""])
    tab = name.endswith((".tsv", ".tab"))
    return Table(
        delimiter=str(dialect.get("delimiter") or ("\t" if tab else ",")),
        quote=str(dialect.get("quoteChar", '"') or ""),
        double_quote=bool(dialect.get("doubleQuote", True)),
        escape=str(dialect.get("escapeChar") or ""),
        encoding=str(resource.get("encoding") or "utf-8"),
        header=bool(dialect.get("header", True)),
        names=tuple(str(f.get("name")) for f in fields),
        types=tuple((str(f.get("name")), str(f.get("type"))) for f in plain),
        missing=tuple(str(m) for m in missing) if isinstance(missing, list) else ("",),
    )
