"""Reads WebDataset tars. Consecutive members with the same key are one sample.

The key is the member's path up to the first dot of its last part; the rest is the suffix. `.json` objects become columns,
`.cls` is the label, `.txt` is the text (or the caption or transcription of a medium), images, audio and video are media, and
other members are binary columns named by their suffix. Pickles stay bytes and are never loaded. A member without a suffix, or a
refused one (a link, a device, a name that leads out of the archive), rejects its sample. If a suffix occurs again for the same
key, a new sample begins, as in the webdataset library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
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
    """The consecutive members with one key, by suffix."""

    key: str
    parts: dict[str, bytes] = field(default_factory=dict)
    fault: str = ""

    def size(self) -> int:
        return sum(map(len, self.parts.values()))


@dataclass(frozen=True)
class WebDataset:
    """Reads a tar, compressed or not, with one sample for each row. Raises SourceTooLargeError for a member above `max_bytes`."""

    max_bytes: int = MAX_MEDIUM_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """One shard for each tar."""
        return [Shard(f.path, f.name, size=f.size) for f in in_order(files)]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Samples in the order of the tar. If the tar is truncated, yields the samples before the damage, then raises."""
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
                values, fault = sample_values(sample)
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
                key, suffix = key_of(member.name)
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
    """The key and the suffix of a member. Splits at the first dot of the path's last part; ignores a leading dot."""
    folder, slash, last = name.rpartition("/")
    stem, _, suffix = last[1:].partition(".") if last.startswith(".") else last.partition(".")
    return folder + slash + ("." if last.startswith(".") else "") + stem, suffix.lower()


def sample_values(sample: Sample) -> tuple[dict[str, Any], str]:
    """The columns of a sample, and the reason why it is refused, or ""."""
    if sample.fault:
        return {}, sample.fault
    values: dict[str, Any] = {"__key__": sample.key}
    columns = {suffix: media.column_for("x." + suffix) for suffix in sample.parts}
    for suffix, data in sample.parts.items():
        if column := columns[suffix]:
            probe = media.probe(data, column)
            if probe.fault:
                return {}, f"{suffix}: {probe.fault}"
            name = column if "." not in suffix and column not in values else suffix
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
            main = next((beside[c] for c in columns.values() if c), "text")
            values[main if suffix == "txt" else suffix] = text
        elif last == "json":
            values[suffix], fault = decoded_or_fault(data)
        else:
            values[suffix] = data
        if fault:
            return {}, f"{suffix}: {fault}"
    return values, ""


def _merge_json(values: dict[str, Any], data: bytes) -> str:
    try:
        found = checked_loads(data)
    except ValueError as error:
        return f"json: {error}"
    if not isinstance(found, dict):
        values["json"], fault = decoded_or_fault(data)
        return fault
    for key, value in found.items():
        values[key if key not in values else f"json.{key}"] = value
    return ""


def detect(source: Source) -> list[FormatClaim]:
    """Claims the tars in which at least half of the keys of the first members have several suffixes."""
    found = [f for f in source.files if _may_be_tar(f) and members.is_archive(f) == "tar" and _grouped(f)]
    if not found:
        return []
    evidence = f"{len(found)} tar(s) whose members share keys"
    passed = tuple((f.name, "tells about the data") for f in source.files if is_about(f.name))
    return [FormatClaim(WebDataset(), tuple(found), 1.0, evidence, kind=_kind(found[0]), passed_over=passed)]


def _may_be_tar(file: SourceFile) -> bool:
    return ".tar" in file.name.lower() or file.name.lower().endswith((".tgz", ".wds"))


def _head(file: SourceFile) -> list[Member]:
    found: list[Member] = []
    with members.tar_members(file) as (walk, _):
        try:
            found.extend(islice(walk, HEAD_MEMBERS))
        except SourceDamagedError:
            # `read` raises the error, after the samples before the damage.
            return found
    return found


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
