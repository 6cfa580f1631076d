"""Lists the formats, and finds the formats that read a source.

A format is a module with `detect(source) -> list[FormatClaim]`. Layouts (a folder or a descriptor that has a meaning as a
whole) are asked first, in the order of `FORMATS`. The files of a claim are not offered to later formats. The remaining files go
to the file formats; each claims the files that it recognises by magic bytes or extension. A module is imported when it is
asked, and no module is asked after every file is claimed.

Installed packages add formats by entry points (`adapters.plugins`). Their formats are asked about all files first. A claim of
theirs is accepted where its score is higher than that of our claim on the same files, or where we have none. At equal scores,
our format reads the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from choline_data.adapters.base import Adapter, FormatClaim, Source, SourceFile, foreign
from choline_data.adapters.plugins import installed_formats, plugin_claims
from choline_data.adapters.reading.known.identity import readers_of
from choline_data.adapters.reading.notes import without_notes
from choline_data.adapters.registered_format import RegisteredFormat
from choline_data.errors import CholineDataError, SourceFormatError
from choline_data.places.locations import redacted

_HERE = "choline_data.adapters."
FORMATS: tuple[RegisteredFormat, ...] = (
    # Layouts. They read a whole folder or descriptor, so they are asked first.
    RegisteredFormat("lfs", _HERE + "lfs", layout=True),
    RegisteredFormat("dvc", _HERE + "dvc", layout=True),
    RegisteredFormat("croissant", _HERE + "croissant", layout=True),
    RegisteredFormat("frictionless", _HERE + "frictionless", layout=True),
    RegisteredFormat("saved", _HERE + "hub_saved", layout=True, extra="hub"),
    RegisteredFormat("lance", _HERE + "lance", layout=True, extra="lance"),
    RegisteredFormat("mds", _HERE + "mds", layout=True),
    RegisteredFormat("litdata", _HERE + "litdata", layout=True),
    RegisteredFormat("hub", _HERE + "hub", layout=True, extra="hub"),
    RegisteredFormat("label-studio", _HERE + "label_studio", layout=True),
    RegisteredFormat("coco", _HERE + "coco", layout=True),
    RegisteredFormat("chatgpt", _HERE + "chatgpt", layout=True),
    RegisteredFormat("chat-export", _HERE + "chat_exports", layout=True),
    RegisteredFormat("brat", _HERE + "standoff", layout=True),
    RegisteredFormat("parallel-texts", _HERE + "parallel_texts", layout=True),
    RegisteredFormat("idx", _HERE + "idx", layout=True),
    RegisteredFormat("annotated-images", _HERE + "annotated_images", layout=True),
    RegisteredFormat("webdataset", _HERE + "webdataset", layout=True),
    RegisteredFormat("media-table", _HERE + "media_table", layout=True),
    RegisteredFormat("audio-folder", _HERE + "audio_folder", layout=True, extra="audio"),
    RegisteredFormat("video-folder", _HERE + "video_folder", layout=True),
    RegisteredFormat("image-folder", _HERE + "image_folder", layout=True),
    RegisteredFormat("source-tree", _HERE + "source_tree", layout=True),
    RegisteredFormat("text-folder", _HERE + "text_folder", layout=True),
    # Formats of single files.
    RegisteredFormat("parquet", _HERE + "parquet"),
    RegisteredFormat("arrow", _HERE + "arrow"),
    RegisteredFormat("sqlite", _HERE + "sqlite"),
    RegisteredFormat("tfrecord", _HERE + "tfrecord"),
    RegisteredFormat("warc", _HERE + "warc"),
    RegisteredFormat("conllu", _HERE + "conllu"),
    RegisteredFormat("orc", _HERE + "tables.orc", by_table=True),
    RegisteredFormat("avro", _HERE + "tables.avro", extra="avro", by_table=True),
    RegisteredFormat("duckdb", _HERE + "tables.duckdb_file", by_table=True),
    RegisteredFormat("numpy", _HERE + "tables.numpy_arrays", by_table=True),
    RegisteredFormat("hdf5", _HERE + "tables.hdf5", extra="arrays", by_table=True),
    RegisteredFormat("netcdf", _HERE + "tables.netcdf", by_table=True),
    RegisteredFormat("matrix-market", _HERE + "tables.sparse_matrices", extra="arrays", by_table=True),
    RegisteredFormat("matlab", _HERE + "tables.matlab", extra="arrays", by_table=True),
    RegisteredFormat("excel", _HERE + "tables.excel", extra="excel", by_table=True),
    RegisteredFormat("statistics", _HERE + "tables.statistics_files", extra="statistics", by_table=True),
    RegisteredFormat("shapefile", _HERE + "tables.shapefiles", by_table=True),
    RegisteredFormat("binary-documents", _HERE + "tables.binary_documents", by_table=True),
    RegisteredFormat("notebook", _HERE + "document_formats.notebooks", by_table=True),
    RegisteredFormat("word", _HERE + "document_formats.word_documents", by_table=True),
    RegisteredFormat("epub", _HERE + "document_formats.books", by_table=True),
    RegisteredFormat("pdf", _HERE + "document_formats.pdf_pages", extra="documents", by_table=True),
    RegisteredFormat("marked-up", _HERE + "document_formats.marked_up_texts", by_table=True),
    RegisteredFormat("html", _HERE + "document_formats.html_pages"),
    RegisteredFormat("front-matter", _HERE + "document_formats.front_matter"),
    RegisteredFormat("yaml", _HERE + "text_records.yaml_document", by_table=True),
    RegisteredFormat("toml", _HERE + "text_records.toml_document", by_table=True),
    RegisteredFormat("map", _HERE + "text_records.geographic_maps", by_table=True),
    RegisteredFormat("xml", _HERE + "text_records.xml_records", by_table=True),
    RegisteredFormat("po", _HERE + "text_records.translations", by_table=True),
    RegisteredFormat("bibtex", _HERE + "text_records.bibtex", by_table=True),
    RegisteredFormat("ris", _HERE + "text_records.references", by_table=True),
    RegisteredFormat("calendar", _HERE + "text_records.calendars", by_table=True),
    RegisteredFormat("n-triples", _HERE + "text_records.triples", by_table=True),
    RegisteredFormat("pgn", _HERE + "text_records.chess_games", by_table=True),
    RegisteredFormat("mail", _HERE + "text_records.mails", by_table=True),
    RegisteredFormat("whatsapp", _HERE + "text_records.whatsapp", by_table=True),
    RegisteredFormat("arff", _HERE + "text_records.arff", by_table=True),
    RegisteredFormat("conll", _HERE + "text_records.tagged_tokens", by_table=True),
    RegisteredFormat("treebank", _HERE + "text_records.treebanks", by_table=True),
    RegisteredFormat("trees", _HERE + "text_records.parse_trees", by_table=True),
    RegisteredFormat("pronunciations", _HERE + "text_records.pronunciations", by_table=True),
    RegisteredFormat("worded-fields", _HERE + "text_records.worded_fields", by_table=True),
    RegisteredFormat("python-literals", _HERE + "text_records.python_literals", by_table=True),
    RegisteredFormat("fasttext", _HERE + "text_records.labelled_lines", by_table=True),
    RegisteredFormat("libsvm", _HERE + "text_records.libsvm", by_table=True),
    RegisteredFormat("subtitles", _HERE + "text_records.subtitles", by_table=True),
    RegisteredFormat("fasta", _HERE + "text_records.fasta", by_table=True),
    RegisteredFormat("genome", _HERE + "text_records.genome_lines", by_table=True),
    RegisteredFormat("sdf", _HERE + "text_records.molecules", by_table=True),
    RegisteredFormat("flat-file", _HERE + "text_records.sequence_entries", by_table=True),
    RegisteredFormat("alignment", _HERE + "text_records.alignments", by_table=True),
    RegisteredFormat("atoms", _HERE + "text_records.atoms", by_table=True),
    RegisteredFormat("spectra", _HERE + "text_records.spectra", by_table=True),
    RegisteredFormat("ecsv", _HERE + "text_records.ecsv", by_table=True),
    RegisteredFormat("gedcom", _HERE + "text_records.family_trees", by_table=True),
    RegisteredFormat("abc", _HERE + "text_records.tunes", by_table=True),
    RegisteredFormat("chess-positions", _HERE + "text_records.chess_positions", by_table=True),
    RegisteredFormat("access-log", _HERE + "text_records.access_logs", by_table=True),
    RegisteredFormat("fastq", _HERE + "text_records.fastq", by_table=True),
    RegisteredFormat("json-dialects", _HERE + "json_dialects"),
    RegisteredFormat("jsonl", _HERE + "jsonl"),
    RegisteredFormat("json", _HERE + "json_document"),
    RegisteredFormat("csv", _HERE + "csv_table"),
    RegisteredFormat("archive", _HERE + "archive"),
    RegisteredFormat("text", _HERE + "text"),
)


def formats() -> tuple[RegisteredFormat, ...]:
    """Returns our formats, then those of installed packages in order of name."""
    return FORMATS + installed_formats(_names_of_ours())


def _names_of_ours() -> frozenset[str]:
    return frozenset(f.name for f in FORMATS)


def format_named(name: str) -> RegisteredFormat:
    """Returns the format with this name, as written in a card's `adapter:`. Raises SourceFormatError if there is none."""
    known = {f.name: f for f in formats()}
    if name not in known:
        raise SourceFormatError(f"No adapter {name!r}.", remedy=f"There are: {', '.join(sorted(known))}.")
    return known[name]


def claims(source: Source, only: str = "") -> tuple[list[FormatClaim], Source]:
    """Returns the claims of all formats on this source, and a source with the files that no format claimed. With `only`, uses just
    that format (a card's `adapter:`, or `--format`).
    """
    if only:
        format_claims = _detect(format_named(only), source)
        return format_claims, _without(source, format_claims)
    accepted, rest = _Asking(source).claims()
    return without_notes(accepted), rest


class _Asking:
    """Asks the formats of this package in turn. A claim of an installed package is called a bid. A bid with a higher
    score is accepted first.
    """

    def __init__(self, source: Source) -> None:
        self._plugins = installed_formats(_names_of_ours())
        self._bids = plugin_claims(self._plugins, source)
        self._rest = source
        self._taken: list[FormatClaim] = []
        self._by_reader: Mapping[str, Sequence[SourceFile]] | None = None

    def claims(self) -> tuple[list[FormatClaim], Source]:
        """Returns the accepted claims, and the source with the files that no claim took."""
        for fmt in sorted(FORMATS, key=lambda f: not f.layout):
            while better := self._ask(fmt):
                self._accept_bid(better)
        while self._bids:
            self._accept_bid(self._bids)
        return self._taken, self._rest

    def _ask(self, fmt: RegisteredFormat) -> list[FormatClaim]:
        """Accepts the claims of a format, unless there are better bids on some of their files. Returns these bids."""
        offered = self._offered(fmt)
        if not offered.files:
            return []
        try:
            claims = _detect(fmt, offered)
        except CholineDataError:
            # No format of this package reads one of these files, so the bids on them have no competitor.
            if rivals := [bid for bid in self._bids if _names_of(bid) & {f.name for f in offered.files}]:
                return rivals
            raise
        better = [bid for bid in self._bids if _beats(bid, claims)]
        if not better:
            self._accept(claims)
        return better

    def _offered(self, fmt: RegisteredFormat) -> Source:
        if not fmt.by_table or not self._rest.files:
            return self._rest
        if self._by_reader is None:
            self._by_reader = readers_of(self._rest.files)
        left = {f.name for f in self._rest.files}
        return replace(self._rest, files=tuple(f for f in self._by_reader.get(fmt.name, ()) if f.name in left))

    def _accept_bid(self, bids: Sequence[FormatClaim]) -> None:
        """Accepts the bid (the claim of an installed package) with the highest score."""
        best = max(bids, key=lambda bid: bid.score)
        self._bids = [bid for bid in self._bids if bid is not best]
        self._accept([best])

    def _accept(self, found: Sequence[FormatClaim]) -> None:
        """Accepts these claims. If they take files that bids also want, asks the packages for new bids."""
        self._taken += found
        self._rest = _without(self._rest, found)
        claimed = {name for claim in found for name in _names_of(claim)}
        if any(claimed & {f.name for f in bid.files} for bid in self._bids):
            self._bids = plugin_claims(self._plugins, self._rest)


def _beats(bid: FormatClaim, found: Sequence[FormatClaim]) -> bool:
    """Returns whether the bid shares files with some of these claims, and has a higher score than each of these."""
    names = {f.name for f in bid.files}
    rivals = [claim.score for claim in found if names & _names_of(claim)]
    return bool(rivals) and bid.score > max(rivals)


def _detect(fmt: RegisteredFormat, source: Source) -> list[FormatClaim]:
    module = fmt.load()
    with foreign(redacted(source.location)):
        claims: list[FormatClaim] = module.detect(source)
    return claims


def _names_of(claim: FormatClaim) -> set[str]:
    """Returns the names of the files that a claim reads, joins or describes."""
    return {f.name for f in claim.files} | {name for name, _ in (*claim.passed_over, *claim.described)}


def _without(source: Source, found: Sequence[FormatClaim]) -> Source:
    """Returns the source without the files that these claims account for."""
    claimed = {name for claim in found for name in _names_of(claim)}
    return replace(source, files=tuple(f for f in source.files if f.name not in claimed)) if claimed else source


def adapter_named(name: str, **options: object) -> Adapter:
    """Returns the adapter of a format with these options. Each format module has its adapter class as `ADAPTER`."""
    adapter: Adapter = format_named(name).load().ADAPTER(**options)
    return adapter
