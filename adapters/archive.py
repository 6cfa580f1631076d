"""ZIP and tar of anything: each member is read by the adapter that would read it as a file. Nothing is extracted.

Members that are refused (links, names that leave the archive, archives within the archive) are passed over, each with
its reason; an archive of which nothing is left is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from choline_data.adapters import members
from choline_data.adapters.base import Adapter, Chunk, Claim, Shard, Source, SourceFile
from choline_data.adapters.names import is_about
from choline_data.errors import SourceFormatError


@dataclass(frozen=True)
class Archive:
    """Reads the members with `inner`; `only` names them where others of the archive belong to another adapter."""

    inner: Adapter | None = None
    only: frozenset[str] = frozenset()

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """The shards that `inner` makes of the members of all these archives."""
        found = [m for f in files for m, reason in members.listing(f) if not reason]
        chosen = tuple(m for m in found if m.name in self.only) if self.only else tuple(found)
        return self._inner(files, chosen).shards(chosen)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[Chunk]:
        """What `inner` reads."""
        return self._inner((), (SourceFile(shard.path, shard.name),)).read(shard, start=start)

    def _inner(self, files: Sequence[SourceFile], found: Sequence[SourceFile]) -> Adapter:
        if self.inner is not None:
            return self.inner
        claims, _ = _claims_within(tuple(found))
        if not claims:
            raise SourceFormatError("No adapter reads these members.", remedy="Unpack the archive and see.")
        return claims[0].adapter


ADAPTER = Archive


def detect(source: Source) -> list[Claim]:
    """Claims the archives of a source, once for each adapter that reads members of theirs."""
    archives = [f for f in source.files if members.is_archive(f)]
    if not archives:
        return []
    listed = [entry for f in archives for entry in members.listing(f)]
    found = tuple(m for m, reason in listed if not reason)
    refused = tuple((m.name, reason) for m, reason in listed if reason)
    about = tuple((f.name, "tells about the data") for f in source.files if is_about(f.name))
    if not found:
        name, reason = refused[0] if refused else (archives[0].name, "the archive is empty")
        raise SourceFormatError(f"{name}: {reason}; nothing is left to read.", remedy="Pack the archive again.")
    claims, rest = _claims_within(found)
    if not claims:
        raise SourceFormatError(
            f"{archives[0].name}: no adapter reads its members ({found[0].name} …).",
            remedy="`choline-data formats` lists what can be read.",
        )
    left = tuple((f.name, "no adapter reads it") for f in rest.files if not is_about(f.name))
    passed = refused + left + tuple((f.name, "tells about the data") for f in rest.files if is_about(f.name))
    return [_outer(claim, archives, len(found), passed + about if at == 0 else ()) for at, claim in enumerate(claims)]


def _claims_within(found: tuple[SourceFile, ...]) -> tuple[list[Claim], Source]:
    from choline_data.adapters.registry import claims

    return claims(Source("", found, folder=True))


def _outer(claim: Claim, archives: list[SourceFile], total: int, passed: tuple[tuple[str, str], ...]) -> Claim:
    only = frozenset(f.name for f in claim.files) if len(claim.files) < total else frozenset()
    return replace(
        claim,
        adapter=Archive(claim.adapter, only),
        files=tuple(archives),
        evidence=f"{len(archives)} archive(s): {claim.evidence}",
        passed_over=claim.passed_over + passed,
    )
