"""The situations in which `add` asks the user instead of guessing, because a source can be read in more than one way.

Each check raises ChoiceNeededError, with the files that are in question and the options that answer. A file that a
pattern of `--include` names is never in question, because the user has chosen it.
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from choline_data.adapters.archive import Archive
from choline_data.adapters.base import JOINED, LEFT_OUT, USED, Adapter, FormatClaim, Shard, Source, SourceChunk
from choline_data.adapters.mapping.extra import values_of
from choline_data.adapters.reading import io, media
from choline_data.adapters.reading.chosen_names import ChosenNames, chosen_of
from choline_data.adapters.reading.class_labels import Named
from choline_data.adapters.reading.file_roles import UNREAD
from choline_data.adapters.reading.names import parts
from choline_data.adapters.reading.split_words import splits_in
from choline_data.adapters.reading.splits import WHY_NO_SPLIT, split_called
from choline_data.catalog.account import FileAccount
from choline_data.catalog.unread_bulk import formats_of, unread_bulk
from choline_data.errors import ChoiceNeededError, one_line

_SEQUENCES = frozenset({"Fasta", "Fastq"})  # a FASTA and a FASTQ file of a source may hold the same reads
ALIKE = 0.5  # if two files have at least this share of their columns in common, they have the same schema
REPEATED = 0.9  # a file repeats another one if this share of its sampled rows occurs in the other one
MIN_ROWS = 3
MIN_SAME_CHARS = 200  # if rows are at least this long, fewer of them are enough to show a repetition
MOST_PATTERNS = 4
MOST_ILLUSTRATIONS = 4
MOST_FORMATS = 16
_GENERAL = frozenset({"JsonDocument", "JsonLines", "Delimited", "Text", "ArrowFile", "SourceTree"})
_DATABASES = frozenset({"Sqlite", "DuckDbFile"})
_NAMING = frozenset({"MediaTable", "Coco", "AnnotatedImages"})
_ANNOTATIONS = frozenset(
    [
        "xml",
        "json",
        "jsonl",
        "csv",
        "tsv",
        "txt",
        "yaml",
        "yml",
        "mat",
        "pkl",
        "textgrid",
        "eaf",
        "lab",
        "ini",
        "xlsx",
        "npy",
    ]
)
_FOLDERS = frozenset({"ImageFolder", "AudioFolder", "VideoFolder"})
_MEDIA_KINDS = frozenset({"image", "audio", "video"})
_ALL = re.compile(r"(?:^|[-_. ])(?:all|full|complete|combined|merged|whole|validated)(?:[-_. ]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class SampledRows:
    """Some rows of a file, the name of the adapter that reads them, and the kind that the format determines, or ""."""

    shard: Shard
    chunk: SourceChunk
    adapter: str
    kind: str


@dataclass(frozen=True)
class PlannedSource:
    """What is known about a source when its plan is complete."""

    source: Source
    claims: Sequence[FormatClaim]
    account: Sequence[FileAccount]
    sampled: Sequence[SampledRows]

    def in_question(self, name: str) -> bool:
        """Returns whether the file is open to questions: the user has not chosen it by a pattern."""
        return not chosen_of(self.source).names(name)

    def files(self, role: str) -> list[str]:
        """Returns the files with this role that the user has not chosen."""
        return [f.name for f in self.account if f.role == role and self.in_question(f.name)]


def check_questions(planned: PlannedSource) -> None:
    """Raises ChoiceNeededError for the first question that the source leaves open."""
    for check in _CHECKS:
        check(planned)


def _ask(message: str, *options: str) -> None:
    raise ChoiceNeededError(message, remedy=f"Choose: {' | '.join(options)}")


def _listed(names: Iterable[str], limit: int = 4) -> str:
    every = list(names)
    shown = ", ".join(one_line(name, 80) for name in every[:limit])
    return f"{shown} and {len(every) - limit:,} more" if len(every) > limit else shown


def pattern_of(names: Sequence[str]) -> str:
    """Returns a pattern for an option that matches these files: the name of one file, or the suffix that all share."""
    last = [parts(name)[-1] for name in names]
    suffixes = {f".{name.rpartition('.')[2]}" for name in last}
    if len(names) == 1 or len(suffixes) > 1:
        return f"'{last[0]}'"
    return f"'*{suffixes.pop()}'"


def _patterns(first: str, second: str) -> tuple[str, str]:
    """Returns a pattern for each of two files: its name, or its whole path if both have the same name."""
    if parts(first)[-1] != parts(second)[-1]:
        return pattern_of([first]), pattern_of([second])
    return f"'{'/'.join(parts(first))}'", f"'{'/'.join(parts(second))}'"


def _unrelated_media(planned: PlannedSource) -> None:
    """Asks about media that no sample contains or names, and about media that became samples although a table names
    other media.
    """
    files = [f.name for f in planned.account if f.role == LEFT_OUT and f.reason.startswith(UNREAD)]
    if any(innermost(claim.adapter) in _NAMING for claim in planned.claims):
        files += [f.name for claim in planned.claims if innermost(claim.adapter) in _FOLDERS for f in claim.files]
    loose = [name for name in files if media.column_for(name) and planned.in_question(name)]
    if not loose or _are_illustrations(loose, planned):
        return
    used = [f.name for f in planned.account if f.role in (USED, JOINED) and f.name not in set(loose)]
    table = next((name for name in used if not media.column_for(name)), "FILE")
    patterns = _patterns_without(loose, used)
    _ask(
        f"{planned.source.location}: {len(loose):,} media files belong to no row: {_listed(loose)}.",
        f"{_option('--exclude', patterns)} (leave them out)",
        f"{_option('--include', patterns)} (only them)",
        f"--join '{parts(table)[-1]}:COLUMN' (the column that names them)",
    )


def _are_illustrations(loose: Sequence[str], planned: PlannedSource) -> bool:
    """Returns whether these media are illustrations, such as a logo. They are few, of another kind than the media of the
    samples, and in none of their folders.
    """
    used = [f.name for f in planned.account if f.role in (USED, JOINED) and media.column_for(f.name)]
    kinds = set(map(media.column_for, used))
    folders = {name.rpartition("/")[0] for name in used}
    few = len(loose) <= MOST_ILLUSTRATIONS and len(loose) * 4 <= len(used)
    return few and not any(media.column_for(n) in kinds or n.rpartition("/")[0] in folders for n in loose)


def _unjoined_files(planned: PlannedSource) -> None:
    """Asks about tables and texts beside a folder of media, if they became samples of their own."""
    kinds = {claim.kind for claim in planned.claims if innermost(claim.adapter) in _FOLDERS} & _MEDIA_KINDS
    if not kinds:
        return
    others = {s.shard.name for s in planned.sampled if s.kind not in _MEDIA_KINDS and s.adapter not in _NAMING}
    others |= {
        file.name
        for file in planned.account
        if file.role == LEFT_OUT and file.reason.startswith(UNREAD) and io.extension(file.name) in _ANNOTATIONS
    }
    loose = sorted(name for name in others if planned.in_question(name))
    if not loose:
        return
    what = " and ".join(sorted(kinds))
    patterns = _patterns_without(
        loose, [f.name for f in planned.account if f.role != LEFT_OUT and f.name not in set(loose)]
    )
    _ask(
        f"{planned.source.location}: {_listed(loose)} may describe the {what} files beside it, but no column names them.",
        f"--join '{parts(loose[0])[-1]}:COLUMN' (the column that names them)",
        f"{_option('--exclude', patterns)} (only the media)",
        f"{_option('--include', patterns)} (only this)",
    )


def _unread_bulk(planned: PlannedSource) -> None:
    """Asks about files of known formats that no adapter reads, if they are more than the files that are read, and the
    user has not chosen among these.
    """
    unread = unread_bulk(planned.account)
    loose = [f.name for f in unread if planned.in_question(f.name)]
    used = [f.name for f in planned.account if f.role in (USED, JOINED)]
    if not loose or not any(map(planned.in_question, used)):
        return
    _ask(
        f"{planned.source.location}: {len(unread):,} files are read by no adapter: {formats_of(unread)}. "
        f"Only {len(used):,} are read: {_listed(used)}.",
        f"{_option('--exclude', _patterns_without(loose, used, MOST_FORMATS))} (leave them out)",
    )


def _patterns_without(names: Sequence[str], others: Sequence[str], most: int = MOST_PATTERNS) -> list[str]:
    """Returns patterns that match these files and none of the others: their suffixes, or their folders."""
    suffixes = [f"*.{suffix}" for suffix in dict.fromkeys(parts(n)[-1].rpartition(".")[2] for n in names)]
    depth = min(len(parts(name)) for name in names)
    folders = [list(dict.fromkeys("/".join(parts(name)[:end]) for name in names)) for end in range(1, depth)]
    for patterns in (suffixes, *folders):
        chosen = ChosenNames(tuple(patterns))
        if len(patterns) <= most and not any(map(chosen.names, others)):
            return [f"'{pattern}'" for pattern in patterns]
    return [f"'{'/'.join(parts(name))}'" for name in names[:MOST_PATTERNS]]


def _option(option: str, patterns: Sequence[str]) -> str:
    return " ".join(f"{option} {pattern}" for pattern in patterns)


_LAYOUTS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"\.mds(?:\.\w+)?$"),
        "a shard of a MosaicML dataset, whose index.json is missing",
        "mds",
    ),
    (
        re.compile(r"(?:^|/)(?:instances|captions|person_keypoints|panoptic|stuff)_\w+\.json$|\.coco\.json$"),
        "a COCO annotation file",
        "coco",
    ),
    (re.compile(r"-idx[1-4]-ubyte(?:\.gz)?$"), "a file of an IDX dataset such as MNIST", "idx"),
    (re.compile(r"\.trans\.txt$"), "a transcript of LibriSpeech", "audio-folder"),
    (re.compile(r"(?:^|/)wav\.scp$"), "a list of recordings of Kaldi", "audio-folder"),
    (re.compile(r"\.(?:fileids|transcription)$"), "a list of Sphinx", "audio-folder"),
    (
        re.compile(r"(?:^|/)data-\d{5}-of-\d{5}\.arrow$"),
        "a shard that save_to_disk wrote",
        "saved",
    ),
    (re.compile(r"(?:^|/)chunk-\d+-\d+\.bin$"), "a chunk of a LitData dataset", "litdata"),
)


def _stray_files(planned: PlannedSource) -> None:
    """Asks about files whose names are typical for a known layout, although the layout was not recognised."""
    readers = defaultdict(set)
    for claim in planned.claims:
        for name in (*(f.name for f in claim.files), *(m.name for m in claim.members), *(n for n, _ in claim.joined)):
            readers[name].add(innermost(claim.adapter))
    for file in planned.account:
        if not readers[file.name] <= _GENERAL or (file.role == LEFT_OUT and not file.reason.startswith(UNREAD)):
            continue
        for pattern, what, layout in _LAYOUTS:
            if pattern.search("/".join(parts(file.name))) and planned.in_question(file.name):
                _ask(
                    f"{file.name} is named like {what}, but can't be read as one here.",
                    f"--format {layout} (see what is missing)",
                    f"--exclude {pattern_of([file.name])} (leave it out)",
                    f"--include {pattern_of([file.name])} (take it as it is)",
                )


def innermost(adapter: Adapter) -> str:
    """Returns the name of the adapter that reads the rows. Adapters for archives and for class names contain it."""
    while isinstance(adapter, Archive | Named) and (inner := _inner(adapter)) is not None:
        adapter = inner
    return type(adapter).__name__


def _inner(adapter: Archive | Named) -> Adapter | None:
    return adapter.inner if isinstance(adapter, Archive) else adapter.adapter


def _unlike_tables(planned: PlannedSource) -> None:
    """Asks about tables of one file with different columns in one config. In a database, also about tables whose names
    are not a numbered series.
    """
    by_file: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    databases = {s.shard.name for s in planned.sampled if s.adapter in _DATABASES and not s.shard.split}
    for s in planned.sampled:
        if planned.in_question(s.shard.name) and s.kind not in _MEDIA_KINDS and s.shard.member:
            by_file[s.shard.name, s.shard.config][s.shard.member].update(s.chunk.batch.schema.names)
    for (name, _), tables in by_file.items():
        (first, columns), *others = tables.items()
        for table, other_columns in others:
            series = _DIGITS.sub("", first) == _DIGITS.sub("", table)
            if not _alike(other_columns, columns) or (name in databases and not series):
                _ask(
                    f"{name} holds the tables {one_line(first, 80)} {_columns(columns)} and {one_line(table, 80)} "
                    f"{_columns(other_columns)}.",
                    "--config-by table (each table is a config of its own)",
                    f"--config-by table --config {shlex.quote(split_called(first))} (only this table)",
                    f"--include {pattern_of([name])} (one dataset of all tables)",
                )


def _two_schemas(planned: PlannedSource) -> None:
    """Asks about files with different columns in one config."""
    by_config: dict[str, dict[str, tuple[str, set[str]]]] = defaultdict(dict)
    splits = {s.shard.name: s.shard.split for s in planned.sampled}
    for s in planned.sampled:
        if planned.in_question(s.shard.name) and s.kind not in _MEDIA_KINDS:
            family, columns = by_config[s.shard.config].setdefault(s.shard.name, (_family(s), set()))
            columns.update(s.chunk.batch.schema.names)
    for files in by_config.values():
        first, *others = files.items()
        for name, (family, columns) in others:
            fewer = splits[name] != splits[first[0]] and _lacks_answers(columns, first[1][1])
            if family != first[1][0] or not (fewer or _alike(columns, first[1][1])):
                this, that = _patterns(first[0], name)
                _ask(
                    f"{planned.source.location}: {one_line(first[0], 80)} and {one_line(name, 80)} have different columns: "
                    f"{_columns(first[1][1])} and {_columns(columns)}.",
                    "--config-by file (each file is a config of its own)",
                    f"--include {this} (only this)",
                    f"--include {this} --include {that} … (one dataset of all)",
                )


def _lacks_answers(columns: set[str], others: set[str]) -> bool:
    """Returns whether one file has all columns of the other file, and more. For example, a test file lacks the answers
    that the training file has.
    """
    return columns < others or others < columns


def _family(sampled: SampledRows) -> str:
    if sampled.adapter in _SEQUENCES:
        return sampled.adapter
    return "text" if sampled.adapter in ("Text", "SourceTree") else "rows"


def _alike(columns: set[str], others: set[str]) -> bool:
    return len(columns & others) >= ALIKE * len(columns | others)


def _columns(names: set[str]) -> str:
    return f"({one_line(', '.join(sorted(names)[:6]), 100)}{' …' if len(names) > 6 else ''})"


_DIGITS = re.compile(r"\d+")
_COMPRESSED = re.compile(r"\.(?:gz|bz2|xz|zst|zstd|lz4)$", re.IGNORECASE)


def _same_stem(planned: PlannedSource) -> None:
    """Asks about files of the same name with different extensions, such as `a.json` and `a.txt`. They often have the
    same rows.
    """
    stems: dict[str, dict[str, str]] = defaultdict(dict)
    for s in planned.sampled:
        if s.kind in _MEDIA_KINDS:
            continue
        of_documents = s.adapter == "Text" and s.shard.files
        for file in [f.name for f in s.shard.files] if of_documents else [s.shard.name]:
            stem, _, extension = _COMPRESSED.sub("", file).rpartition(".")
            if stem and "/" not in extension and planned.in_question(file):
                stems[stem].setdefault(extension.lower(), file)
    for files in stems.values():
        if len(files) > 1:
            first, second = list(files.values())[:2]
            _ask(
                f"{planned.source.location}: {one_line(first, 80)} and {one_line(second, 80)} have the same name, and may "
                "hold the same rows twice.",
                f"--include {_extension(first)} (only these)",
                f"--include {_extension(second)} (only these)",
                f"--include {_extension(first)} --include {_extension(second)} (both)",
            )


def _extension(name: str) -> str:
    last = parts(name)[-1]
    return f"'*.{last.partition('.')[2]}'" if "." in last else f"'{last}'"


def _whole_beside_parts(planned: PlannedSource) -> None:
    """Asks about a file such as `all.tsv` beside `train.tsv`."""
    rows = {s.shard.name for s in planned.sampled if s.kind not in _MEDIA_KINDS}
    without_split = {f.name for f in planned.account if f.reason == WHY_NO_SPLIT}
    by_folder: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sorted(rows | without_split):
        by_folder[name.rpartition("/")[0], io.extension(name)].append(name)
    for names in by_folder.values():
        whole = next((n for n in names if _ALL.search(_stem(n)) and planned.in_question(n)), None)
        part = next((n for n in names if n != whole and splits_in(_stem(n))), None)
        if whole and part:
            _ask_repeats(planned, whole, part, "is named as if it held the rows of")


def _stem(name: str) -> str:
    return parts(name)[-1].partition(".")[0]


def _repeats(planned: PlannedSource) -> None:
    """Asks about files whose first rows are also the first rows of another file of the same config. Files with numbered
    names are exempt.
    """
    rows: dict[tuple[str, str], set[str]] = defaultdict(set)
    if len({s.shard.origin for s in planned.sampled}) < 2:
        return
    for s in planned.sampled:
        if s.kind not in _MEDIA_KINDS and not s.shard.files and s.shard.start == 0:
            rows[s.shard.config, s.shard.origin].update(_keys(s))
    ordered = list(rows.items())
    for number, ((config, name), keys) in enumerate(ordered):
        for (other_config, other), others in ordered[:number]:
            fewer = min(len(keys), len(others))
            series = _DIGITS.sub("", name) == _DIGITS.sub("", other)
            if config != other_config or series or not planned.in_question(name):
                continue
            if fewer < MIN_ROWS and not (fewer and sum(map(len, keys & others)) >= MIN_SAME_CHARS):
                continue
            if len(keys & others) >= REPEATED * fewer:
                _ask_repeats(planned, name, other, "repeats rows of")


def _keys(sampled: SampledRows) -> set[str]:
    """Returns the sampled rows as texts to compare. Equal rows give equal texts."""
    batch = sampled.chunk.batch
    columns = sorted(zip(batch.schema.names, (values_of(column) for column in batch.columns), strict=True))
    return {repr([(name, values[row]) for name, values in columns]) for row in range(batch.num_rows)}


def _ask_repeats(planned: PlannedSource, name: str, other: str, how: str) -> None:
    this, that = _patterns(name, other)
    _ask(
        f"{planned.source.location}: {one_line(name, 80)} {how} {one_line(other, 80)}.",
        f"--exclude {this} (leave it out)",
        f"--include {this} (only it)",
        f"--include {this} --include {that} (both)",
    )


_CHECKS = (
    _unrelated_media,
    _unjoined_files,
    _unread_bulk,
    _stray_files,
    _same_stem,
    _unlike_tables,
    _two_schemas,
    _whole_beside_parts,
    _repeats,
)
