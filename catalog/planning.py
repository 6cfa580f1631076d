"""Plans an `add` before it runs: which adapter reads which files, and which mapping makes the samples.

A plan is a picklable value. The same source gives the same plan on every machine, so every runner stores the same bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import USED, Adapter, FormatClaim, Shard, Source, SourceChunk, foreign
from choline_data.adapters.mapping import Mapping, forms
from choline_data.adapters.plugins import adapter_of_a_package, valid_chunk
from choline_data.adapters.reading.known.identity import refusal
from choline_data.adapters.reading.splits import SplitBy, counted, leaving_out, marked_source, split_by
from choline_data.adapters.reading.table_options import with_table_options
from choline_data.adapters.reading.text_files import with_encoding, with_file_encodings
from choline_data.adapters.registry import claims
from choline_data.catalog.absent_media import absent_media
from choline_data.catalog.account import FileAccount, account_of
from choline_data.catalog.error_pages import refuse_error_pages
from choline_data.catalog.open_questions import PlannedSource, SampledRows, check_questions, innermost
from choline_data.catalog.skipped_lines import warnings_of_skipped_lines
from choline_data.catalog.split_plan import BY_SHARD, RowParts, row_parts, split_shards
from choline_data.catalog.warned import SampledPart, SourceWarning, warnings_of
from choline_data.columns.arrow_values import array_of, numbers
from choline_data.errors import (
    CholineDataError,
    SourceDamagedError,
    SourceFormatError,
    SourceTooLargeError,
)
from choline_data.store.blocks import block_rows_for

SAMPLE_ROWS = 64
SAMPLED_FILES = 8
UNIT_BYTES = 64 << 20


@dataclass(frozen=True)
class IngestPart:
    """Shards that are read by one adapter and turned into samples by one mapping."""

    adapter: Adapter
    mapping: Mapping
    shards: tuple[Shard, ...]
    evidence: str = ""
    by_row: RowParts = BY_SHARD


@dataclass(frozen=True)
class Unit:
    """A piece of work for one worker: shards of one split. It becomes one store file, or several if it is big."""

    number: int
    shards: tuple[tuple[int, Shard], ...]  # pairs: the index of the part, and the shard
    split: str
    config: str


@dataclass(frozen=True)
class Preview:
    """A source row and the sample that was made from it, each as a batch of one row. The properties convert them to
    Python values.
    """

    source: pa.RecordBatch = field(repr=False)
    stored: pa.RecordBatch = field(repr=False)
    kind: str

    @property
    def raw(self) -> MappingOf[str, object]:
        """The source row as a dict."""
        from choline_data.adapters.mapping.extra import values_of

        return {name: values_of(self.source.column(at))[0] for at, name in enumerate(self.source.schema.names)}

    @property
    def sample(self) -> MappingOf[str, object]:
        """The sample as a dict."""
        return dict(self.stored.to_pylist()[0])


@dataclass(frozen=True)
class IngestPlan:
    """Everything that determines the content of the revision that an ingestion makes."""

    name: str
    parts: tuple[IngestPart, ...]
    columns: tuple[str, ...]
    block_rows: int
    constants: MappingOf[str, str]
    source: str = ""
    source_revision: str = ""
    limit: int = 0
    compression: str = ""
    max_rejects: float = 0.01
    account: tuple[FileAccount, ...] = field(default=(), compare=False, repr=False)
    previews: tuple[Preview, ...] = field(default=(), compare=False)
    warned: tuple[SourceWarning, ...] = field(default=(), compare=False, repr=False)

    @property
    def kind(self) -> str:
        """The kind of the samples. If the parts have different kinds, the most frequent one."""
        kinds = [part.mapping.kind for part in self.parts]
        return max(sorted(set(kinds)), key=kinds.count)

    @property
    def passed_over(self) -> tuple[tuple[str, str], ...]:
        """The files whose rows are not samples, with the reasons."""
        return tuple((file.name, file.reason) for file in self.account if file.role != USED)

    @property
    def bytes(self) -> int:
        """The size of the source in bytes. Shards of unknown size count as 0."""
        return sum(max(shard.size, 0) for part in self.parts for shard in part.shards)

    @property
    def splits(self) -> MappingOf[tuple[str, str], tuple[int, int]]:
        """The files and bytes of each (config, split). Columns that decide the split of a row have no influence here."""
        return counted(shard for part in self.parts for shard in part.shards)

    @property
    def encodings(self) -> dict[str, str]:
        """The encoding of each text file that is not UTF-8, by the file's name. Whole documents keep theirs in `extra`."""
        shards = (shard for part in self.parts for shard in part.shards)
        return {shard.name: shard.encoding for shard in shards if shard.encoding not in ("", "utf-8")}

    def units(self) -> list[Unit]:
        """Returns the units of work, in source order. Small shards share a unit, up to UNIT_BYTES; a unit never has two splits."""
        units: list[Unit] = []
        pending: list[tuple[int, Shard]] = []
        held = 0

        def close() -> None:
            nonlocal held
            if pending:
                first = pending[0][1]
                units.append(Unit(len(units), tuple(pending), first.split, first.config))
                pending.clear()
                held = 0

        for number, part in enumerate(self.parts):
            for shard in part.shards:
                same = pending and (pending[0][1].split, pending[0][1].config) == (shard.split, shard.config)
                if pending and (not same or held + max(shard.size, 0) > UNIT_BYTES):
                    close()
                pending.append((number, shard))
                held += max(shard.size, 0)
        close()
        return units


@dataclass(frozen=True)
class Wishes:
    """The user's options besides the source: `--as`, `--map`, `--format` and the like."""

    as_kind: str = ""
    fields: MappingOf[str, str] = field(default_factory=dict)
    form: str = ""
    format: str = ""
    license: str = ""
    language: str = ""
    limit: int = 0
    compression: str = ""
    max_rejects: float = 0.01
    config: str = ""
    split: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    split_by: str = ""
    config_by: str = ""
    join: tuple[str, ...] = ()
    # Whether an open question is an error. For `repair` it is not, because the result must be the known revision.
    ask: bool = True
    encoding: str = ""
    header: str = ""
    delimiter: str = ""


def guarded_chunks(adapter: Adapter, shard: Shard) -> Generator[SourceChunk, None, None]:
    """Yields the adapter's chunks. If a parser raises an error that is not ours, it becomes SourceDamagedError.

    Raises SourceFormatError if an adapter yields something else than valid chunks.
    """
    with foreign(shard.origin, adapter_of_a_package(adapter)):
        for chunk in adapter.read(shard):
            yield valid_chunk(chunk, adapter, shard)


def _first_chunks(adapter: Adapter, shard: Shard, rows: int) -> list[SourceChunk]:
    """Returns chunks with at least `rows` rows from the shard's start. If the shard is damaged, returns the chunks
    before the damage.
    """
    chunks: list[SourceChunk] = []
    count = 0
    try:
        for chunk in guarded_chunks(adapter, shard):
            chunks.append(replace(chunk, batch=chunk.batch.slice(0, rows), rows=chunk.rows[:rows]))
            count += chunk.batch.num_rows + len(chunk.rejects)
            if count >= rows:
                break
    except (SourceDamagedError, SourceTooLargeError):
        if not any(chunk.batch.num_rows for chunk in chunks):
            raise
    return chunks


def _spread(items: Sequence[Shard], count: int) -> list[Shard]:
    """Returns at most `count` items: the first, the last, and evenly spread ones between them."""
    if len(items) <= count:
        return list(items)
    return [items[i * (len(items) - 1) // (count - 1)] for i in range(count)]


def _parts_of(
    claim: FormatClaim, shards: Sequence[Shard], wishes: Wishes, by: SplitBy, name: str
) -> tuple[list[IngestPart], list[tuple[IngestPart, SourceChunk, Shard]]]:
    """Returns the claim's parts, one per mapping that its files need, and the sampled chunks."""
    from choline_data.adapters.mapping.infer import choice_needed, infer, unsure

    shards = with_file_encodings(claim.adapter, shards)
    # Files of one format may hold different tables: files are grouped by their columns, and each group is inferred alone.
    by_file: dict[tuple[str, str], list[Shard]] = {}
    for shard in shards:
        by_file.setdefault((shard.path, shard.member), []).append(shard)
    groups = list(by_file.values())
    looked_at = {id(group) for group in groups} if len(groups) <= 256 else {id(g) for g in _spread_groups(groups)}
    schemas: dict[tuple[str, ...], list[tuple[list[Shard], list[SourceChunk]]]] = {}
    unread: list[list[Shard]] = []
    for group in groups:
        if id(group) not in looked_at:
            unread.append(group)
            continue
        chunks = [chunk for shard in _spread(group, 2) for chunk in _first_chunks(claim.adapter, shard, SAMPLE_ROWS)]
        names = tuple(sorted({n for chunk in chunks if chunk.batch.num_rows for n in chunk.batch.schema.names}))
        schemas.setdefault(names, []).append((group, chunks))
    parts: dict[tuple[Mapping, RowParts], IngestPart] = {}
    samples: list[tuple[IngestPart, SourceChunk, Shard]] = []
    empty: list[list[Shard]] = [group for group, _ in schemas.pop((), [])]
    for members in schemas.values():
        batches = [c.batch for _, chunks in members[:SAMPLED_FILES] for c in chunks if c.batch.num_rows]
        with foreign(members[0][0][0].origin):
            candidates = infer(
                batches, kind_hint=claim.kind, as_kind=wishes.as_kind, overrides=dict(wishes.fields), name=name
            )
        if not candidates:
            raise SourceFormatError(
                f"{members[0][0][0].origin}: none of its columns can be mapped.",
                remedy="Say what it is with --as KIND.",
            )
        stated = next((c for c in candidates if c.mapping.kind == claim.kind), None)
        if stated is not None and not wishes.as_kind:
            # The format determines the kind of its samples, so there is nothing to ask.
            candidates = [stated]
        elif not wishes.as_kind and unsure(candidates):
            raise choice_needed(candidates, members[0][0][0].origin)
        best = candidates[0]
        by_row = row_parts([c for _, chunks in members for c in chunks], shards, by, wishes.config_by)
        key = (best.mapping, by_row)
        part = parts.get(key) or IngestPart(claim.adapter, best.mapping, (), "; ".join(best.evidence), by_row)
        parts[key] = replace(part, shards=(*part.shards, *(s for group, _ in members for s in group)))
        samples += [(part, chunk, group[0]) for group, chunks in members for chunk in chunks if chunk.batch.num_rows]
    _take_rest(parts, [shard for group in (*unread, *empty) for shard in group], claim, wishes)
    order = {(s.path, s.member, s.start): i for i, s in enumerate(shards)}
    ordered = [
        replace(p, shards=tuple(sorted(p.shards, key=lambda s: order[s.path, s.member, s.start])))
        for p in parts.values()
    ]
    return ordered, samples


def _take_rest(
    parts: dict[tuple[Mapping, RowParts], IngestPart], rest: list[Shard], claim: FormatClaim, wishes: Wishes
) -> None:
    """Adds shards that were not sampled, or have no rows, to the part with the most shards."""
    if rest and parts:
        most = max(parts, key=lambda key: len(parts[key].shards))
        parts[most] = replace(parts[most], shards=(*parts[most].shards, *rest))
    elif rest:
        # Without any rows, make a part anyway, so that an empty file gives 0 rows and not the error "unknown format".
        mapping = Mapping(wishes.as_kind or claim.kind or "text", "document", (("text", "text"),))
        parts[mapping, BY_SHARD] = IngestPart(claim.adapter, mapping, tuple(rest), "no rows")


def _spread_groups(groups: list[list[Shard]]) -> list[list[Shard]]:
    return [groups[i * (len(groups) - 1) // 255] for i in range(256)]


def plan_source(source: Source, name: str, wishes: Wishes) -> IngestPlan:
    """Returns the plan for a resolved source. Raises ChoiceNeededError if two kinds are about equally likely."""
    by = split_by(wishes.split_by)
    as_kind = "text" if wishes.format == "text" else wishes.as_kind
    stated = {key: value for key, value in (("as", as_kind), ("format", wishes.format)) if value}
    source = replace(source, options={**source.options, **stated}) if stated else source
    refuse_error_pages(source.files)
    source = marked_source(source)
    accepted, rest = claims(source, only=wishes.format)
    if not accepted:
        raise refusal(source.location, source.files)
    if wishes.encoding:
        accepted = with_encoding(accepted, wishes.encoding, source.location)
    accepted = with_table_options(accepted, wishes.header, wishes.delimiter, source.location)
    config_by = split_by(wishes.config_by, "--config-by")
    listed, left_out = split_shards(accepted, by, config_by, wishes.config, wishes.split)
    account = account_of(source, [leaving_out(claim, left_out) for claim in accepted], rest, wishes.format)
    parts: list[IngestPart] = []
    samples: list[tuple[IngestPart, SourceChunk, Shard]] = []
    sampled: list[SampledRows] = []
    for claim, shards in listed:
        its_parts, its_samples = _parts_of(claim, shards, wishes, by, name)
        parts += its_parts
        samples += its_samples
        sampled += [SampledRows(s, chunk, innermost(claim.adapter), claim.kind) for _, chunk, s in its_samples]
    if not parts:
        raise SourceFormatError(
            f"{source.location} contains nothing that could become a sample.",
            remedy="; ".join(f"{f.name}: {f.reason}" for f in account if f.reason)[:400] or "Check the path.",
        )
    if wishes.ask:
        check_questions(PlannedSource(source, accepted, account, sampled))
    may_ask = wishes.ask and not wishes.as_kind and not wishes.fields
    absent = absent_media(source, [(part.mapping, chunk, shard) for part, chunk, shard in samples], ask=may_ask)
    kinds = {part.mapping.kind for part in parts}
    license_ = wishes.license or source.license or next((c.license for c in accepted if c.license), "") or "NOASSERTION"
    constants = {"license": license_, **({"kind": next(iter(kinds))} if len(kinds) == 1 else {})}
    if wishes.language:
        constants["language"] = wishes.language
    columns = {"id", "origin", *itertools.chain.from_iterable(forms.columns(part.mapping) for part in parts)}
    if len(kinds) > 1:
        columns.add("kind")
    previews, row_bytes, warned = _looked_at(samples)
    from choline_data import schema as one

    return IngestPlan(
        name=name,
        parts=tuple(parts),
        columns=tuple(f.name for f in one.STORED if f.name in columns),
        block_rows=block_rows_for(row_bytes),
        constants=constants,
        source=source.location,
        source_revision=source.revision,
        limit=wishes.limit,
        compression=wishes.compression,
        max_rejects=wishes.max_rejects,
        account=account,
        previews=previews,
        warned=(*warned, *absent, *warnings_of_skipped_lines((part.adapter, shard) for part, _, shard in samples)),
    )


def _looked_at(
    samples: list[tuple[IngestPart, SourceChunk, Shard]],
) -> tuple[tuple[Preview, ...], float, tuple[SourceWarning, ...]]:
    """Returns up to three previews, the approximate bytes per sample, and the warnings for the user. `samples` are the
    rows that were read for the plan.
    """
    out: list[Preview] = []
    by_part: dict[Mapping, list[SampledPart]] = {}
    size = rows = 0
    firsts = {id(part.mapping): n for n, (part, _, _) in reversed(list(enumerate(samples)))}
    ordered = sorted(range(len(samples)), key=lambda n: (n not in firsts.values(), n))
    for part, chunk, shard in (samples[n] for n in ordered[:64]):
        try:
            with foreign(shard.origin):
                normalised = forms.apply(part.mapping, chunk, shard)
        except CholineDataError:
            continue
        batch: pa.RecordBatch = normalised.batch
        rows_of = chunk.rows if normalised.keep is None else chunk.rows[numbers(normalised.keep)]
        by_part.setdefault(part.mapping, []).append(SampledPart(shard.origin, batch, rows_of))
        # For some types, nbytes of a slice counts the buffers of the whole parent; a copy of the few rows avoids this.
        size += batch.take(array_of(np.arange(batch.num_rows))).nbytes
        rows += batch.num_rows
        if batch.num_rows and len(out) < 3:
            out.append(Preview(chunk.batch.slice(0, 1), batch.slice(0, 1), part.mapping.kind))
    warned = tuple(itertools.chain.from_iterable(warnings_of(sampled) for sampled in by_part.values()))
    return tuple(out), size / max(rows, 1), warned
