"""Resolves what a user typed (one location or several, with patterns of names) into one source."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from choline_data.adapters.base import Source, SourceFile
from choline_data.adapters.reading.chosen_names import chosen_of
from choline_data.adapters.reading.left_out import refuse_parts_of_tables, refuse_table_formats
from choline_data.adapters.reading.names import in_utf8, parts
from choline_data.catalog.delta_table import LOG, with_current_files
from choline_data.catalog.locate import resolve
from choline_data.errors import InvalidOptionError, SourceNotFoundError, one_line
from choline_data.places.locations import is_url

MAX_NAME = 60
# These files describe the other files. `--include` selects data files, so it never leaves these out.
_DESCRIPTORS = frozenset(
    {"datapackage.json", "datapackage.yml", "datapackage.yaml", "readme.md", "dataset_dict.json", "dataset_info.json"}
    | {"state.json", "index.json"}
)


def resolve_sources(
    locations: Sequence[str],
    *,
    revision: str = "",
    options: Mapping[str, str] | None = None,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    join: tuple[str, ...] = (),
) -> Source:
    """Returns the source at these locations, with only the files that the user's patterns choose."""
    sources = [resolve(location, revision=revision, options=options) for location in locations]
    source = sources[0] if len(sources) == 1 else _together(sources)
    if source.folder:
        source = with_current_files(source)
        logs = (
            {name for name, _ in source.left_out if name.rstrip("/").endswith(LOG)}
            if os.path.isdir(source.location)
            else ()
        )
        names = [name for name, _ in source.left_out if name not in logs] + [file.name for file in source.files]
        refuse_table_formats(source.location, names)
    refuse_parts_of_tables(source)
    return _choose_files(replace(source, include=include, exclude=exclude, join=join))


def _together(sources: Sequence[Source]) -> Source:
    """Joins several sources to one. The files keep the order in which the user named them, and each gets a unique name."""
    whole = next((s for s in sources if s.location.startswith("hf://") and s.revision), None)
    if whole is not None:
        raise InvalidOptionError(
            f"{whole.location} is a hub dataset, and is not added together with other sources.",
            remedy="Add each one separately; a mix can stream them together.",
        )
    files = [file for source in sources for file in source.files]
    named = _below_common_folder(files) if not any(is_url(f.path) for f in files) else _with_places(sources)
    unique = {file.path: file for file in named}
    stem = "-".join(dict.fromkeys(source.name for source in sources))
    return Source(
        " ".join(source.location for source in sources),
        tuple(unique.values()),
        name=stem if len(stem) <= MAX_NAME else f"{sources[0].name}-and-{len(sources) - 1}-more",
        license=sources[0].license if len({s.license for s in sources}) == 1 else "",
        folder=True,
        options=sources[0].options,
        left_out=tuple(item for source in sources for item in source.left_out),
    )


def _below_common_folder(files: Sequence[SourceFile]) -> list[SourceFile]:
    root = os.path.commonpath([os.path.dirname(file.path) for file in files])
    return [replace(f, name=in_utf8(os.path.relpath(f.path, root).replace(os.sep, "/"))) for f in files]


def _with_places(sources: Sequence[Source]) -> list[SourceFile]:
    """Returns the files of all sources. Names that occur twice get the number of their source as a folder."""
    count = Counter(file.name for source in sources for file in source.files)
    return [
        file if count[file.name] == 1 else replace(file, name=f"{number}/{file.name}")
        for number, source in enumerate(sources, 1)
        for file in source.files
    ]


def _choose_files(source: Source) -> Source:
    """Returns the source without the files that the user's patterns leave out.

    If `--include` names no file of the source, it is about the members of its archives.
    """
    if not (source.include or source.exclude):
        return source
    chosen = chosen_of(source)
    of_members = not any(chosen.names(file.name) for file in source.files)
    kept: list[SourceFile] = []
    left_out: list[tuple[str, str]] = []
    for file in source.files:
        reason = chosen.why_not(file.name)
        if reason.startswith("not in") and _stays(file.name, of_members):
            reason = ""
        if reason:
            left_out.append((file.name, reason))
        else:
            kept.append(file)
    if all(_stays(file.name, False) for file in kept):
        names = ", ".join(one_line(file.name, 60) for file in source.files[:5])
        raise SourceNotFoundError(
            f"{source.location}: the patterns leave no file ({left_out[0][1]}).",
            remedy=f"Change the pattern; there are: {names}.",
        )
    return replace(source, files=tuple(kept), left_out=(*source.left_out, *left_out))


def _stays(name: str, of_members: bool) -> bool:
    """Returns whether a file stays although no pattern of `--include` names it: a descriptor, or an archive if members
    are chosen.
    """
    return parts(name)[-1].lower() in _DESCRIPTORS or (of_members and _may_hold_members(name))


def _may_hold_members(name: str) -> bool:
    lower = name.lower()
    return lower.endswith((".zip", ".tgz")) or ".tar" in lower
