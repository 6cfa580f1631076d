"""Reads ZIP and tar archives with any content. The adapter for a file also reads it as a member. Nothing is extracted to disk.

Refused members (names and links that lead out of the archive, devices, sparse files) are rejects with their number in the
archive and a reason. Links to other members and archives within the archive are skipped. An archive without any readable
member is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import Adapter, FormatClaim, Reject, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io, members
from choline_data.adapters.reading.names import is_about
from choline_data.errors import SourceFormatError


@dataclass(frozen=True)
class Archive:
    """Reads the members with `inner`. If other members belong to another adapter, `only` names the members to read.

    `refuses` says that this adapter reports the refused members as rejects. Only one adapter of an archive does so.
    """

    inner: Adapter | None = None
    only: frozenset[str] = frozenset()
    refuses: bool = True

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """The shards of `inner` for the members of all these archives, and one for each archive with refused members."""
        listed = [(f, members.listing(f)) for f in files]
        found = tuple(m.file for _, its in listed for m in its if not m.reason)
        chosen = tuple(m for m in found if m.name in self.only) if self.only else found
        shards = self._inner(files, chosen).shards(chosen)
        if self.refuses:
            shards += [Shard(f.path, f.name, size=0) for f, its in listed if any(m.refused for m in its)]
        return shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """The chunks of `inner`. For a shard that is an archive itself, a chunk with the refused members as rejects."""
        file = SourceFile(shard.path, shard.name)
        if members.is_member(shard.path):
            yield from self._inner((), (file,)).read(shard, start=start)
            return
        refused = [(at, m) for at, m in enumerate(members.listing(file)) if m.refused and at >= start]
        rejects = tuple(Reject(m.file.name, at, m.reason) for at, m in refused)
        yield SourceChunk(pa.RecordBatch.from_arrays([], names=[]), np.empty(0, np.int64), rejects)

    def _inner(self, files: Sequence[SourceFile], found: Sequence[SourceFile]) -> Adapter:
        if self.inner is not None:
            return self.inner
        claims, _ = _claims_within(tuple(found))
        if not claims:
            raise SourceFormatError("No adapter reads these members.", remedy="Unpack the archive and see.")
        return claims[0].adapter


ADAPTER = Archive


def detect(source: Source) -> list[FormatClaim]:
    """Claims the archives of a source, with one claim for each adapter that reads some of their members."""
    archives = [f for f in source.files if members.is_archive(f)]
    if not archives:
        return []
    listed = [entry for f in archives for entry in members.listing(f)]
    found = tuple(m.file for m in listed if not m.reason)
    unread = tuple((m.file.name, m.reason) for m in listed if m.reason)
    about = tuple((f.name, "tells about the data") for f in source.files if is_about(f.name))
    if not found:
        name, reason = unread[0] if unread else (archives[0].name, "the archive is empty")
        raise SourceFormatError(f"{name}: {reason}; nothing is left to read.", remedy="Pack the archive again.")
    claims, rest = _claims_within(found)
    if not claims:
        raise SourceFormatError(
            f"{archives[0].name}: no adapter reads its members ({found[0].name} …).",
            remedy="`choline-data formats` lists what can be read.",
        )
    left = tuple((f.name, "no adapter reads it") for f in rest.files if not is_about(f.name))
    passed = unread + left + tuple((f.name, "tells about the data") for f in rest.files if is_about(f.name))
    outer = [_outer(claim, archives, len(found), at == 0) for at, claim in enumerate(claims)]
    return [replace(outer[0], passed_over=outer[0].passed_over + passed + about), *outer[1:]]


def _claims_within(found: tuple[SourceFile, ...]) -> tuple[list[FormatClaim], Source]:
    from choline_data.adapters.registry import claims

    with io.with_heads(members.MemberHeads(found)):
        return claims(Source("", found, folder=True))


def _outer(claim: FormatClaim, archives: list[SourceFile], total: int, refuses: bool) -> FormatClaim:
    only = frozenset(f.name for f in claim.files) if len(claim.files) < total else frozenset()
    return replace(
        claim,
        adapter=Archive(claim.adapter, only, refuses),
        files=tuple(archives),
        evidence=f"{len(archives)} archive(s): {claim.evidence}",
    )
