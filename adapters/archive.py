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

from choline_data.adapters.base import (
    LEFT_OUT,
    Adapter,
    FileRole,
    FormatClaim,
    Reject,
    Shard,
    Source,
    SourceChunk,
    SourceFile,
)
from choline_data.adapters.reading import io, members
from choline_data.adapters.reading.chosen_names import chosen_of
from choline_data.adapters.reading.file_roles import roles_of, unclaimed
from choline_data.adapters.reading.known.identity import refusal
from choline_data.adapters.reading.left_out import refuse_table_formats, why_left_out
from choline_data.adapters.reading.splits import NO_SPLIT, WHY_NO_SPLIT, leaving_out, marked_source, settled, split_by
from choline_data.errors import SourceFormatError


@dataclass(frozen=True)
class Archive:
    """Reads the members with `inner`. If other members belong to another adapter, `only` names the members to read. With
    `refuses`, this adapter reports the refused members as rejects; only one adapter of an archive does this. `options` are the
    options of the source, which decide the splits of the members.
    """

    inner: Adapter | None = None
    only: frozenset[str] = frozenset()
    refuses: bool = True
    options: tuple[tuple[str, str], ...] = ()

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns the shards of `inner` for the members of these archives, and one for each archive with refused members."""
        listed = [(f, members.listing(f)) for f in files]
        member_files = _members(listed, dict(self.options))
        chosen = tuple(m for m in member_files if m.name in self.only) if self.only else member_files
        by = split_by(dict(self.options).get("split_by", ""))
        shards, _ = settled(self._inner(files, chosen).shards(chosen), chosen, by)
        if self.refuses:
            shards += [
                Shard(f.path, f.name, size=0) for f, members_of_one in listed if any(m.refused for m in members_of_one)
            ]
        return shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the chunks of `inner`. If the shard is an archive itself, yields a chunk with the refused members as rejects."""
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
        claims, _ = _claims_within(Source("", tuple(found), folder=True, options=dict(self.options)))
        if not claims:
            raise SourceFormatError(
                "No adapter reads these members.", remedy="Unpack the archive, and look which files it contains."
            )
        return claims[0].adapter


ADAPTER = Archive


def detect(source: Source) -> list[FormatClaim]:
    """Claims the archives of a source, with one claim for each adapter that reads some of their members."""
    archives = [f for f in source.files if members.is_archive(f)]
    if not archives:
        return []
    listings = [(f, members.listing(f)) for f in archives]
    wanted, unread = _wanted([entry for _, members_of_one in listings for entry in members_of_one], source)
    marked = {f.path: f for f in _members(listings, source.options)}
    files = tuple(marked[f.path] for f in wanted)
    if not files:
        name, reason = (unread[0].name, unread[0].reason) if unread else (archives[0].name, "the archive is empty")
        raise SourceFormatError(f"{name}: {reason}; nothing is left to read.", remedy="Pack the archive again.")
    claims, rest = _claims_within(Source("", files, folder=True, options=source.options, join=source.join))
    if not claims:
        with io.with_heads(members.MemberHeads(files)):
            raise refusal(archives[0].name, files)
    with io.with_heads(members.MemberHeads(rest.files)):
        unread += unclaimed(rest.files)
    outer = [_outer(claim, archives, len(files), at == 0, source.options) for at, claim in enumerate(claims)]
    return [replace(outer[0], members=(*outer[0].members, *unread)), *outer[1:]]


def _wanted(listed: Sequence[members.Listed], source: Source) -> tuple[tuple[SourceFile, ...], list[FileRole]]:
    """Returns the members to read, and for each other member the reason why it is not read."""
    refuse_table_formats(source.location, (entry.file.name for entry in listed))
    chosen = chosen_of(source)
    chosen_files: list[SourceFile] = []
    unread: list[FileRole] = []
    for entry in listed:
        name = entry.file.name
        reason = entry.reason or why_left_out(name.partition("!/")[2]) or chosen.why_not(name)
        if reason:
            unread.append(FileRole(name, LEFT_OUT, reason))
        else:
            chosen_files.append(entry.file)
    return tuple(chosen_files), unread


def _members(
    listings: Sequence[tuple[SourceFile, Sequence[members.Listed]]], options: dict[str, str]
) -> tuple[SourceFile, ...]:
    """Returns the members that are read, with their splits. The name of the archive counts as a folder."""
    readable = tuple(
        replace(m.file, config=f.config) if f.config else m.file
        for f, members_of_one in listings
        for m in members_of_one
        if not m.reason
    )
    return marked_source(Source("", readable, options=options)).files


def _claims_within(source: Source) -> tuple[list[FormatClaim], Source]:
    from choline_data.adapters.registry import claims

    with io.with_heads(members.MemberHeads(source.files)):
        return claims(source)


def _outer(
    claim: FormatClaim, archives: list[SourceFile], total: int, refuses: bool, options: dict[str, str]
) -> FormatClaim:
    only = frozenset(f.name for f in claim.files) if len(claim.files) < total else frozenset()
    return replace(
        claim,
        adapter=Archive(claim.adapter, only, refuses, tuple(sorted(options.items()))),
        files=tuple(archives),
        evidence=f"{len(archives)} archive(s): {claim.evidence}",
        members=roles_of([leaving_out(claim, {f.name: WHY_NO_SPLIT for f in claim.files if f.split == NO_SPLIT})]),
        passed_over=(),
        described=(),
        joined=(),
    )
