"""Reads source trees: one file for each row, with its path and language. A file that is not text is kept as bytes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io, media, members
from choline_data.adapters.reading.encodings import decoded, looks_like_text
from choline_data.adapters.reading.media import suffix_of
from choline_data.adapters.reading.names import in_order, parts
from choline_data.adapters.reading.rows import SourceRows, file_shards
from choline_data.errors import ChoiceNeededError, SourceDamagedError, one_line

LANGUAGES = {
    "py": "Python", "pyi": "Python", "js": "JavaScript", "mjs": "JavaScript", "ts": "TypeScript", "tsx": "TypeScript",
    "jsx": "JavaScript", "c": "C", "h": "C", "cc": "C++", "cpp": "C++", "hpp": "C++", "cs": "C#", "java": "Java",
    "kt": "Kotlin", "scala": "Scala", "go": "Go", "rs": "Rust", "rb": "Ruby", "php": "PHP", "swift": "Swift",
    "m": "Objective-C", "r": "R", "jl": "Julia", "lua": "Lua", "pl": "Perl", "sh": "Shell", "bat": "Batchfile",
    "ps1": "PowerShell", "sql": "SQL", "hs": "Haskell", "ml": "OCaml", "ex": "Elixir", "erl": "Erlang",
    "clj": "Clojure", "zig": "Zig", "dart": "Dart", "f90": "Fortran", "cu": "Cuda", "proto": "Protocol Buffer",
}  # fmt: skip
PROSE = {"md": "Markdown", "rst": "reStructuredText", "txt": "Text", "html": "HTML", "css": "CSS", "json": "JSON",
         "toml": "TOML", "yaml": "YAML", "yml": "YAML", "cfg": "INI", "ini": "INI", "xml": "XML"}  # fmt: skip
_SETTINGS = re.compile(
    r"(?:^|/)(?:(?:package|package-lock|composer|bower|manifest|lerna|deno|tsconfig|jsconfig|turbo|nx)[^/]*|\.[^/]*|[^/]*[.-]?config)"
    r"\.json$|(?:^|/)node_modules/"
)
_TABLE_BYTES = 16 << 10  # a JSON object (not a list) of more than this many bytes may be data, too
_MOST_NAMED = 4
_DATA = frozenset(
    [
        "csv",
        "tsv",
        "jsonl",
        "parquet",
        "arrow",
        "feather",
        "tar",
        "zip",
        "npy",
        "npz",
        "bin",
        "gz",
        "zst",
        "wav",
        "ogg",
        "flac",
        "mp3",
    ]
)
_TYPES = {
    "text": pa.large_string(),
    "path": pa.string(),
    "language": pa.string(),
    "encoding": pa.string(),
    "image": media.MEDIUM,
    "content": pa.large_binary(),
}


@dataclass(frozen=True)
class SourceTree:
    """Reads every file of a tree as a row. A file above `max_bytes` is rejected."""

    max_bytes: int = MAX_ROW_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns shards of several files each, in order of name."""
        return file_shards(in_order(files))

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields rows with text, path and language. Images are in `image`, other binary files in `content`."""
        rows = SourceRows(shard.origin, _TYPES)
        wanted = shard.files[start:]
        for number, (file, data) in enumerate(members.contents(wanted, self.max_bytes, inflate=False), start):
            if rows.full(len(data or b"")):
                yield from rows.take()
            if data is None:
                rows.reject(number, f"above {self.max_bytes:,} bytes (max_bytes)", file.name)
                continue
            values: dict[str, object] = {"path": file.name, "language": language_of(file.name)}
            # A file that is empty or not text is also a sample, because it belongs to the tree.
            values["text"] = ""
            if not data:
                pass
            elif looks_like_text(data) and (text := _text_or_none(data)):
                values["text"], values["encoding"] = text
            elif media.mime_of(data).startswith("image/") and not media.probe(data).fault:
                values["image"] = {"bytes": data, "path": file.name}
            else:
                values["content"] = data
            rows.add(number, values, len(data), file.name)
        yield from rows.take()


ADAPTER = SourceTree


def _text_or_none(data: bytes) -> tuple[str, str] | None:
    """Returns the text and its encoding. None if the encoding is not clear; then the file is kept as bytes."""
    try:
        return decoded(data)
    except (ChoiceNeededError, SourceDamagedError):
        return None


def language_of(name: str) -> str | None:
    """Returns the language for a file's name, as Linguist calls it, or None."""
    suffix = suffix_of(name)
    fixed = {"Makefile": "Makefile", "Dockerfile": "Dockerfile", "CMakeLists.txt": "CMake"}
    return fixed.get(parts(name)[-1]) or LANGUAGES.get(suffix) or PROSE.get(suffix)


def detect(source: Source) -> list[FormatClaim]:
    """Claims a folder of code, in which at least a fifth of the files are programs and none is a data file.

    A tree has no splits: `tests/` and `train.py` are code. Raises ChoiceNeededError if JSON data beside the programs are larger
    than the programs, unless the user has chosen the files or the format.
    """
    names = [f.name for f in source.files]
    programs = [f for f in source.files if suffix_of(f.name) in LANGUAGES]
    if not programs or len(programs) * 5 < len(names) or any(suffix_of(n) in _DATA for n in names):
        return []
    if not source.include and not source.options.get("format"):
        _ask_about_data(source, programs)
    files = source.files if source.options.get("split_by") else tuple(replace(f, split="") for f in source.files)
    return [FormatClaim(SourceTree(), files, 0.9, f"{len(programs)} of {len(names)} files are programs", kind="text")]


def _ask_about_data(source: Source, programs: Sequence[SourceFile]) -> None:
    """Raises ChoiceNeededError if the JSON files that are not settings are larger, together, than the programs."""
    data = [f for f in source.files if suffix_of(f.name) in ("json", "geojson") and not _SETTINGS.search(f.name)]
    data = [f for f in data if f.size >= _TABLE_BYTES or io.head(f.path, 64).lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"["]
    if not data or sum(f.size for f in data) < sum(f.size for f in programs):
        return
    suffix = f"*.{suffix_of(data[0].name)}"
    settings = list(
        dict.fromkeys(parts(f.name)[-1] for f in source.files if fnmatchcase(f.name, suffix) and f not in data)
    )
    excluded = "".join(f" --exclude {shlex.quote(name)}" for name in settings[:_MOST_NAMED])
    shown = ", ".join(one_line(f.name, 80) for f in data[:_MOST_NAMED])
    raise ChoiceNeededError(
        f"{source.location}: {len(programs):,} files are programs, and {len(data):,} are JSON data: {shown}"
        f"{' …' if len(data) > _MOST_NAMED else ''}.",
        remedy=f"Choose: --include '{suffix}'{excluded} (the data) | --format source-tree (each file is one document)",
    )
