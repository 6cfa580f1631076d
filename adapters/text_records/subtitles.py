"""Reads SubRip and WebVTT subtitles: one cue for each row, with its start and end in seconds and its text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import (
    TextRecord,
    claim_all,
    lines_of,
    paragraphs,
    record_chunks,
    shards_of,
)

_TYPES = {
    "text": pa.large_string(),
    "start": pa.float64(),
    "end": pa.float64(),
    "cue": pa.string(),
    "settings": pa.string(),
}
_STAMP = r"(?:(\d+):)?(\d{1,2}):(\d\d)[.,](\d{1,3})"
_TIMES = re.compile(rf"\s*{_STAMP}\s*-->\s*{_STAMP}[ \t]*(.*)$")
_NO_CUES = ("WEBVTT", "NOTE", "STYLE", "REGION")


@dataclass(frozen=True)
class Subtitles:
    """Reads cues in the order of the file. Notes, styles and regions of WebVTT are not cues. Tags in a text are kept."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the cues from number `start` on."""
        return record_chunks(cues_in(lines_of(shard, self.encoding), shard.name), shard, start, _TYPES)


ADAPTER = Subtitles


def cues_in(lines: Iterable[str], name: str) -> Iterator[TextRecord]:
    """Yields the cues in these lines of a file. A block without a line of times is a fault."""
    for number, block in enumerate(paragraphs(lines, name), 1):
        starts = [at for at, line in enumerate(block) if _TIMES.match(line)]
        if not starts:
            if not block[0].startswith(_NO_CUES):
                yield TextRecord(fault=f"block {number} has no line of times")
            continue
        # A line of times within a block begins a cue, even if the blank line before it is missing.
        for at, following in pairwise([*starts, len(block) + 1]):
            yield _cue(block, at, following)


def _cue(block: Sequence[str], at: int, following: int) -> TextRecord:
    """Returns the cue whose times are in line `at`. The next cue has its times in line `following`."""
    match = _TIMES.match(block[at])
    times = match.groups() if match else ()
    end = following - 1 if following < len(block) and block[following - 1].strip().isdecimal() else following
    name = block[at - 1].strip() if at and (at == 1 or block[at - 1].strip().isdecimal()) else None
    values = {
        "text": "\n".join(block[at + 1 : end]),
        "start": _seconds(times[:4]),
        "end": _seconds(times[4:8]),
        "cue": name,
        "settings": (times[8] or "").strip() or None,
    }
    return TextRecord(values, sum(map(len, block)) + 64)


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = parts
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return float(f"{whole}.{fraction or '0'}")


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of subtitles."""
    return claim_all(source, Subtitles(), "cues of subtitles")
