"""Reads WebDataset tars. Consecutive members with the same key are one sample.

The key is the member's path up to the first dot of its last part; the rest is the suffix. `.json` objects become columns,
`.cls` is the label, `.txt` is the text (or the caption or transcription of a medium), images, audio and video are media, and
other members are binary columns named by their suffix. Pickles stay bytes and are never loaded. A member without a suffix, or a
refused one (a link, a device, a name that leads out of the archive), rejects its sample. If a suffix occurs again for the same
key, a new sample begins, as in the webdataset library. If the keys themselves contain dots, such as
`img.v1_002.input.png`, the suffix consists of the words at the end of the name. A README in a tar is not a sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import DESCRIBED, FileRole, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import media, members
from choline_data.adapters.reading.encodings import decoded_or_fault
from choline_data.adapters.reading.media import MAX_MEDIUM_BYTES
from choline_data.adapters.reading.names import in_order, is_about
from choline_data.adapters.reading.records import checked_loads
from choline_data.adapters.reading.rows import SourceRows
from choline_data.adapters.reading.tar_stream import Member, body
from choline_data.errors import SourceDamagedError

HEAD_MEMBERS = 200
_TEXT = frozenset(["txt", "text", "caption", "transcript", "transcription", "lbl", "index", "id", "inx"])


@dataclass
class Sample:
    """The consecutive members of a tar that have the same key, by suffix."""

    key: str
    parts: dict[str, bytes] = field(default_factory=dict)
    fault: str = ""

    def size(self) -> int:
        return sum(map(len, self.parts.values()))


@dataclass(frozen=True)
class WebDataset:
    """Reads a tar, compressed or not, with one sample for each row. Raises SourceTooLargeError for a member above `max_bytes`."""

    max_bytes: int = MAX_MEDIUM_BYTES
    # whether the keys contain dots; the suffix is then all words after the last part with a digit
    dotted_keys: bool = False

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each tar."""
        return [Shard(f.path, f.name, size=f.size) for f in in_order(files)]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the samples from number `start` on. If the tar is cut, yields the samples before the cut, then raises."""
        rows = SourceRows(shard.origin, {"__key__": pa.string()})
        samples = self._samples(SourceFile(shard.path, shard.name))
        number = 0
        while True:
            try:
                sample = next(samples, None)
            except SourceDamagedError:
                yield from rows.take()
                raise
            if sample is None:
                break
            if number >= start:
                if rows.full(sample.size()):
                    yield from rows.take()
                values, fault = sample_values(sample, main=self.dotted_keys)
                if fault:
                    rows.reject(number, f"sample {sample.key!r}: {fault}")
                else:
                    rows.add(number, values, sample.size())
            number += 1
        yield from rows.take()

    def _samples(self, file: SourceFile) -> Iterator[Sample]:
        sample: Sample | None = None
        with members.tar_members(file) as (walk, stream):
            for member in walk:
                if _is_note(member.name):
                    continue
                key, suffix = dotted_key_of(member.name) if self.dotted_keys else key_of(member.name)
                fresh = sample is None or sample.key != key or suffix in sample.parts
                if sample is not None and fresh:
                    yield sample
                if sample is None or fresh:
                    sample = Sample(key)
                if member.reason or not suffix:
                    sample.fault = f"{member.name}: {member.reason or 'it has no suffix'}"
                    sample.parts[suffix] = b""
                else:
                    sample.parts[suffix] = body(stream, member, file.name, self.max_bytes)
        if sample is not None:
            yield sample


ADAPTER = WebDataset


def key_of(name: str) -> tuple[str, str]:
    """Returns the key and the suffix of a member. Splits at the first dot of the path's last part; ignores a leading dot."""
    folder, slash, last = name.rpartition("/")
    stem, _, suffix = last[1:].partition(".") if last.startswith(".") else last.partition(".")
    return folder + slash + ("." if last.startswith(".") else "") + stem, suffix.lower()


def dotted_key_of(name: str) -> tuple[str, str]:
    """Returns the key and the suffix of a member whose key may contain dots: `img.v1_002.input.png` is `img.v1_002` and
    `input.png`.
    """
    folder, slash, last = name.removeprefix("./").rpartition("/")
    words = last.split(".")
    at = len(words) - 1
    while at > 1 and _WORD.fullmatch(words[at - 1]):
        at -= 1
    return folder + slash + ".".join(words[:at]), ".".join(words[at:]).lower()


_WORD = re.compile(r"[A-Za-z]+")
_NOTES = frozenset({"", "txt", "md", "rst", "html"})


def _is_note(name: str) -> bool:
    """Whether a member is a README or a licence, and no part of a sample."""
    return is_about(name) and media.suffix_of(name) in _NOTES


def sample_values(sample: Sample, *, main: bool = False) -> tuple[dict[str, Any], str]:
    """Returns the columns of a sample, and the reason why it is refused, or "".

    With `main`, the biggest medium of a kind takes the name of its kind if no medium has a plain suffix.
    """
    if sample.fault:
        return {}, sample.fault
    values: dict[str, Any] = {"__key__": sample.key}
    columns = {suffix: media.column_for("x." + suffix) for suffix in sample.parts}
    first = _main_media(sample, columns) if main else frozenset()
    for suffix, data in sample.parts.items():
        if column := columns[suffix]:
            probe = media.probe(data, column)
            if probe.fault:
                return {}, f"{suffix}: {probe.fault}"
            name = column if ("." not in suffix or suffix in first) and column not in values else suffix
            values[name] = {"bytes": data, "path": f"{sample.key}.{suffix}"}
    for suffix, data in sample.parts.items():
        last, fault = suffix.rpartition(".")[2], ""
        if columns[suffix]:
            continue
        if suffix == "json":
            fault = _merge_json(values, data)
            if fault:
                return {}, fault
        elif last == "cls":
            text, fault = decoded_or_fault(data)
            values["label" if suffix == "cls" else suffix] = text.strip()
        elif last in _TEXT:
            text, fault = decoded_or_fault(data)
            beside = {"audio": "transcription", "image": "caption", "video": "caption"}
            place = next((beside[c] for c in columns.values() if c), "text")
            values[place if suffix == "txt" else suffix] = text
        elif last == "json":
            values[suffix], fault = decoded_or_fault(data)
        else:
            values[suffix] = data
        if fault:
            return {}, f"{suffix}: {fault}"
    return values, ""


def _main_media(sample: Sample, columns: dict[str, str]) -> frozenset[str]:
    """Returns the members that take the name of their kind: the biggest medium of each kind for which no medium has a
    plain suffix.
    """
    biggest: dict[str, str] = {}
    for suffix, column in columns.items():
        if column and not any(c == column and "." not in s for s, c in columns.items()):
            best = biggest.setdefault(column, suffix)
            biggest[column] = max(best, suffix, key=lambda s: len(sample.parts[s]))
    return frozenset(biggest.values())


def _merge_json(values: dict[str, Any], data: bytes) -> str:
    try:
        parsed = checked_loads(data)
    except ValueError as error:
        return f"json: {error}"
    if not isinstance(parsed, dict):
        values["json"], fault = decoded_or_fault(data)
        return fault
    for key, value in parsed.items():
        values[key if key not in values else f"json.{key}"] = value
    return ""


def detect(source: Source) -> list[FormatClaim]:
    """Claims the tars in which at least half of the keys of the first members have several suffixes."""
    tars = [f for f in source.files if _may_be_tar(f) and members.is_archive(f) == "tar" and _grouped(f)]
    if not tars:
        return []
    evidence = f"{len(tars)} tar(s) whose members share keys"
    passed = tuple((f.name, "tells about the data") for f in source.files if is_about(f.name))
    notes = [FileRole(f"{f.name}!/{m.name}", DESCRIBED, "in the tar, no sample") for f in tars for m in _notes(f)]
    return [
        FormatClaim(
            WebDataset(dotted_keys=any(map(_has_dotted_keys, tars))),
            tuple(tars),
            1.0,
            evidence,
            kind=_kind(tars[0]),
            passed_over=passed,
            members=tuple(notes),
        )
    ]


def _notes(file: SourceFile) -> list[Member]:
    return [member for member in _head(file) if _is_note(member.name)]


def _has_dotted_keys(file: SourceFile) -> bool:
    """Returns whether the keys contain dots. This is assumed if what follows the first dot contains numbers, and the
    words at the end repeat for each sample.
    """
    names = [member.name for member in _head(file) if not member.reason and not _is_note(member.name)]
    odd = any(not _WORD.fullmatch(word) for name in names for word in key_of(name)[1].split(".")[:-1])
    groups: dict[str, list[str]] = {}
    for key, suffix in map(dotted_key_of, names):
        groups.setdefault(key, []).append(suffix)
    return odd and all(1 < len(suffixes) == len(set(suffixes)) for suffixes in groups.values())


def _may_be_tar(file: SourceFile) -> bool:
    return ".tar" in file.name.lower() or file.name.lower().endswith((".tgz", ".wds"))


def _head(file: SourceFile) -> list[Member]:
    first_members: list[Member] = []
    with members.tar_members(file) as (walk, _):
        try:
            first_members.extend(islice(walk, HEAD_MEMBERS))
        except SourceDamagedError:
            # `read` raises the error, after the samples before the damage.
            return first_members
    return first_members


def _grouped(file: SourceFile) -> bool:
    head = _head(file)
    keys = [key_of(m.name) for m in head]
    suffixes: dict[str, set[str]] = {}
    for key, suffix in keys:
        suffixes.setdefault(key, set()).add(suffix)
    several = sum(len(s) > 1 for s in suffixes.values())
    return bool(suffixes) and several * 2 >= len(suffixes)


def _kind(file: SourceFile) -> str:
    columns = [media.column_for(m.name) for m in _head(file)]
    return next((c for c in ("video", "image", "audio") if c in columns), "")
