"""Serves packed rows of tokens by position, in the same kind of order as samples.

A batch has the columns `dataset`, `tokens` (seq_len + 1 tokens, padded with 0), `length` (tokens before the padding)
and `pieces` (for each piece of the row: its document, as the row number in the revision, and its number of tokens). If
a source has chats, there is also `mask`: 1 for tokens of the assistant, and for all tokens of sources that are not
chats.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data.errors import DamagedStoreError, InvalidOptionError, OutOfRangeError
from choline_data.mix.resolve import RowsOf, sample_rows
from choline_data.order import SourceOrder
from choline_data.order.recipe import Recipe, RecipeSource
from choline_data.places.home import Home
from choline_data.places.mapped import steady
from choline_data.process.work import pause
from choline_data.store import derived
from choline_data.store.faults import naming
from choline_data.store.windows import Store
from choline_data.streams import wire
from choline_data.streams.sample_stream import placed
from choline_data.tokens.allowed import DIGEST, ENCODING, NAME, Allowed
from choline_data.tokens.packing import (
    BestFit,
    Documents,
    PackedRows,
    check_packing,
    concat,
    concat_rows,
    stored_best_fit,
)
from choline_data.tokens.token_store import TokenArray, TokenKey, is_incomplete, stored, tokenize
from choline_data.tokens.tokenizers import Tokenizer, check_boundary

Ints = npt.NDArray[np.int64]
ROWS_A_BLOCK = 64
_WINDOWS_HELD = 8
PIECE = pa.struct([pa.field("row", pa.int64()), pa.field("tokens", pa.int32())])


def token_options(
    tokenizer: str | Tokenizer = "bytes", seq_len: int = 1024, packing: str = "concat", boundary: str = "eos"
) -> dict[str, str]:
    """Returns the options of a tokens recipe from those of a user. They identify the tokenizer by its digest."""
    engine = tokenizer if isinstance(tokenizer, Tokenizer) else Tokenizer(tokenizer)
    check_packing(packing, seq_len)
    engine.boundary(boundary)
    # A path means nothing on another machine, so a file is identified by its digest only.
    name = {} if engine.kind == "file" else {"tokenizer_name": engine.name}
    return {
        "tokenizer": engine.digest,
        **name,
        "seq_len": str(seq_len),
        "packing": packing,
        "boundary": boundary,
    }


def remote_options(
    tokenizer: str | Tokenizer = "bytes", seq_len: int = 1024, packing: str = "concat", boundary: str = "eos"
) -> dict[str, str]:
    """Returns the options of a tokens recipe in a request to a server.

    A tokenizer file on this machine is read here and identified by its digest. A name or a digest that is not a file here is
    sent unchanged; the server resolves it.
    """
    if isinstance(tokenizer, str) and tokenizer != "bytes" and not os.path.exists(tokenizer):
        if tokenizer.startswith(ENCODING):
            digest = Tokenizer(tokenizer).digest
            options = {"tokenizer": digest, "tokenizer_name": tokenizer}
        elif DIGEST.fullmatch(tokenizer) or (NAME.fullmatch(tokenizer) and not tokenizer.endswith(".json")):
            options = {"tokenizer": tokenizer}
        else:
            # `token_options` raises the error for a missing file
            return token_options(tokenizer, seq_len, packing, boundary)
        check_packing(packing, seq_len)
        check_boundary(boundary)
        return {**options, "seq_len": str(seq_len), "packing": packing, "boundary": boundary}
    return token_options(tokenizer, seq_len, packing, boundary)


def _settings(options: Mapping[str, str]) -> tuple[str, str, int, str, str]:
    try:
        seq_len = int(options["seq_len"])
        check_packing(options["packing"], seq_len)
        return options["tokenizer"], options.get("tokenizer_name", ""), seq_len, options["packing"], options["boundary"]
    except (KeyError, ValueError) as error:
        raise InvalidOptionError(
            "The tokens view needs tokenizer, seq_len, packing and boundary.", remedy="See docs/training.md."
        ) from error


def _array(
    store: Store, source: RecipeSource, options: Mapping[str, str], tokenizer: Tokenizer | None = None
) -> TokenArray:
    digest, name, _, _, boundary = _settings(options)
    key = TokenKey(source.revision, digest, boundary)
    quota = derived.of(store.home)
    for tries_left in (2, 1, 0):
        try:
            if stored(store.home, key):
                return _open_tokens(store.home, key)
        except DamagedStoreError:
            if stored(store.home, key) and not store.home.exists(key.marker) and not is_incomplete(store.home, key):
                raise
            # In all other cases the tokens were evicted a moment ago, completely or in part, and are made again.
        small = store.revision(source.revision).bytes <= quota.tokens
        if tokenizer is None and small:
            tokenizer = (store.tokenizers or Allowed()).known(store.home, digest, name)
        if not small or tokenizer is None or tokenizer.digest != digest:
            break
        try:
            with quota.making(f"The tokens of {source.dataset}"):
                array = tokenize(store.home, source.revision, tokenizer, boundary, on_request=True)
            array.on_request = store.home.exists(key.marker)
            return array
        except DamagedStoreError:
            if not tries_left or not (is_incomplete(store.home, key) or not stored(store.home, key)):
                raise
    shown = name if NAME.fullmatch(name) else "FILE"
    allowed = (
        "" if store.tokenizers is None else f", or name a tokenizer of the server: {', '.join(store.tokenizers.names)}"
    )
    raise InvalidOptionError(
        f"{source.dataset} is not tokenized with this tokenizer and boundary {boundary[:20]!r}.",
        remedy=f"Run `choline-data tokenize {source.dataset} --tokenizer {shown} --boundary {boundary[:20]}`{allowed}.",
        dataset=source.dataset,
    )


def _open_tokens(home: Home, key: TokenKey) -> TokenArray:
    """Opens the stored tokens. If they were made on request, records that they are used now."""
    array = TokenArray(home, key)
    if home.exists(key.marker):
        array.on_request = True
        derived.of(home).mark(home, key.marker)
    return array


class _PackedSource:
    """The packed rows of one source."""

    def __init__(
        self, store: Store, source: RecipeSource, options: Mapping[str, str], tokenizer: Tokenizer | None = None
    ) -> None:
        pause()
        _, _, self.seq_len, self.packing, _ = _settings(options)
        self.array = _array(store, source, options, tokenizer)
        revision = store.revision(source.revision)
        if self.array.documents != revision.rows:
            raise DamagedStoreError(
                f"{source.dataset}: the stored tokens do not match the rows of the dataset.",
                remedy="Run `choline-data repair`.",
            )
        self.windows = _windows(self.array.flat, self.seq_len + 1)
        self.mask_windows = None if self.array.mask is None else _windows(self.array.mask, self.seq_len + 1)
        chosen = self._chosen(store, source)
        part = "/".join((source.config, source.split, source.where))
        self.documents, self._index, self._rows = steady(
            lambda: self._count_rows(store, chosen, part), self.array.files
        )

    def _count_rows(self, store: Store, chosen: Ints | None, part: str) -> tuple[Documents, BestFit | None, int]:
        """Returns the documents of the source, the packing index (only for `bfd`), and the number of packed rows.

        `chosen` are the rows that the filter keeps, or None for all. `part` names the split, config and filter in the
        index's name.
        """
        documents = Documents(self.array, chosen)
        if self.packing != "bfd":
            return documents, None, concat_rows(documents, self.seq_len)
        index = stored_best_fit(store.home, documents, self.seq_len, part)
        return documents, index, len(index)

    @staticmethod
    def _chosen(store: Store, source: RecipeSource) -> Ints | None:
        revision = store.revision(source.revision)
        spans = revision.spans(source.split, source.config)
        if source.where:
            from choline_data.where.selection import selected_rows, within

            return np.asarray(within(selected_rows(store.home, revision, source.where), spans), np.int64)
        if spans == [(0, revision.rows)]:
            return None
        return np.concatenate([np.arange(a, b, dtype=np.int64) for a, b in spans] or [np.empty(0, np.int64)])

    @property
    def nbytes(self) -> int:
        """The size in memory in bytes. The tokens of a local home are mapped and do not count."""
        array = self.array
        token_bytes = (
            0 if array.local else array.flat.nbytes + array.starts.nbytes + (0 if array.mask is None else array.tokens)
        )
        return token_bytes + self.documents.nbytes + (0 if self._index is None else self._index.nbytes)

    def __len__(self) -> int:
        return self._rows

    def pick(self, rows: Ints) -> PackedRows:
        """Returns the packed rows with these numbers."""
        return self._index.pick(rows) if self._index is not None else concat(self.documents, rows, self.seq_len)


def _packed(store: Store, source: RecipeSource, options: Mapping[str, str]) -> _PackedSource:
    with naming(source.dataset):
        return _PackedSource(store, source, options)


def token_rows(tokenizer: Tokenizer | None = None) -> RowsOf:
    """Returns a function for `rows_of` of `resolve_mix`. It counts packed rows in the tokens view, and samples in the
    other views.

    With `tokenizer`, small datasets without stored tokens for it are tokenized now.
    """

    def rows_of(store: Store, source: RecipeSource, view: str, options: Mapping[str, str]) -> tuple[int, int]:
        if view == "tokens":
            return len(_PackedSource(store, source, options, tokenizer)), ROWS_A_BLOCK
        return sample_rows(store, source, view, options)

    return rows_of


class TokenStream:
    """The packed rows of a tokens recipe by position. Thread-safe. The same positions always give the same rows."""

    def __init__(self, store: Store, recipe: Recipe, columns: Sequence[str] | None = None) -> None:
        del columns  # packed rows have no column selection
        self.recipe = recipe
        self.plan = recipe.plan()
        self._lock = threading.Lock()
        _, _, self.seq_len, _, _ = _settings(recipe.options)
        self._packed = [_packed(store, source, recipe.options) for source in recipe.sources]
        for source, packed in zip(recipe.sources, self._packed, strict=True):
            if len(packed) != source.rows:
                raise DamagedStoreError(
                    f"{source.name}: the recipe has {source.rows} packed rows, the store has {len(packed)}.",
                    remedy="Run `choline-data repair`. If nothing is damaged, the recipe comes from another home: "
                    "resolve the mix again.",
                )
        self._home = store.home
        self._marked = [packed.array.key.marker for packed in self._packed if packed.array.on_request]
        self._orders = [
            SourceOrder(s.rows, s.block_rows, seed=recipe.row_seed, key=f"tokens/{s.key}", shuffle=recipe.shuffle)
            for s in recipe.sources
        ]
        self._open_tokens: OrderedDict[tuple[int, int, int], Ints] = OrderedDict()
        self.files = tuple(dict.fromkeys(file for packed in self._packed for file in packed.array.files))
        self.datasets = tuple(sorted({s.dataset for s in recipe.sources}))
        self._codes = np.array([self.datasets.index(s.dataset) for s in recipe.sources], np.int16)
        self.masked = any(p.array.mask is not None for p in self._packed)
        self._dtype = np.result_type(np.uint16, *(p.array.dtype for p in self._packed)).newbyteorder("=")
        fields = [
            pa.field("dataset", pa.dictionary(pa.int16(), pa.string()), nullable=False),
            pa.field("tokens", pa.list_(pa.from_numpy_dtype(self._dtype), self.seq_len + 1), nullable=False),
            pa.field("length", pa.int32(), nullable=False),
            pa.field("pieces", pa.list_(PIECE), nullable=False),
        ]
        if self.masked:
            fields.append(pa.field("mask", pa.list_(pa.uint8(), self.seq_len + 1), nullable=False))
        self.schema = pa.schema(fields, metadata={"choline_data.view": "tokens"})
        self.wire_schema = wire.schema_on_the_wire(self.schema)

    @property
    def length(self) -> int | None:
        """The number of positions of the stream. None if it never ends."""
        return self.plan.length

    @property
    def held_bytes(self) -> int:
        """The number of bytes that the stream needs in memory while it is open."""
        return sum(packed.nbytes for packed in self._packed)

    @property
    def lost(self) -> bool:
        """Whether a file of its tokens was damaged, removed or replaced, so that the stream must be opened again."""
        return not all(file.unchanged() for file in self.files)

    def mean_row_bytes(self) -> float:
        """Returns the approximate size of a packed row in bytes."""
        return float((self._dtype.itemsize + self.masked) * (self.seq_len + 1) + 24)

    def placed(self, positions: Ints) -> tuple[npt.NDArray[np.uint16], Ints]:
        """Returns the source and the rank of each of these ascending positions."""
        return placed(self.plan, positions)

    def read_at(self, positions: Ints) -> pa.RecordBatch:
        """Returns the packed rows at these ascending positions, in the wire schema."""
        for name in self._marked:
            derived.of(self._home).mark(self._home, name)
        try:
            return steady(lambda: self._read_at(positions), self.files)
        except DamagedStoreError:
            for source, packed in zip(self.recipe.sources, self._packed, strict=True):
                if any(file.lost for file in packed.array.files):
                    with naming(source.dataset):
                        raise
            raise

    def _read_at(self, positions: Ints) -> pa.RecordBatch:
        count, room = len(positions), self.seq_len + 1
        tokens = np.empty((count, room), self._dtype)
        mask = np.empty((count, room), np.uint8) if self.masked else None
        length = np.zeros(count, np.int32)
        piece_counts = np.zeros(count, np.int64)
        by_source: list[tuple[Ints, PackedRows]] = []
        source, rank = self.placed(positions) if count else (np.empty(0, np.uint16), np.empty(0, np.int64))
        for number in np.flatnonzero(np.bincount(source)).tolist():
            places = np.flatnonzero(source == number)
            packed = self._packed[number]
            rows = packed.pick(self._rows(number, rank[places]))
            sizes = np.add.reduceat(rows.length, rows.offsets[:-1]) if len(rows.length) else np.zeros(0, np.int64)
            length[places] = sizes
            piece_counts[places] = rows.offsets[1:] - rows.offsets[:-1]
            by_source.append((places, rows))
            with naming(self.recipe.sources[number].dataset):
                packed.array.check(rows.start, rows.length)
            copies = _copy_rows(packed.array.flat, packed.windows, rows, sizes, room)
            if len(places) == count:
                tokens = copies.astype(self._dtype, copy=False)
            else:
                tokens[places] = copies
            if mask is not None and packed.array.mask is not None:
                mask[places] = _copy_rows(packed.array.mask, packed.mask_windows, rows, sizes, room)
            elif mask is not None:
                mask[places] = np.arange(room) < sizes[:, None]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(piece_counts)])
        document = np.empty(int(offsets[-1]), np.int64)
        spans = np.empty(int(offsets[-1]), np.int32)
        for places, rows in by_source:
            counts = rows.offsets[1:] - rows.offsets[:-1]
            at = np.repeat(offsets[places] - rows.offsets[:-1], counts) + np.arange(len(rows.start))
            document[at], spans[at] = rows.document, rows.length
        pieces = pa.ListArray.from_arrays(
            pa.array(offsets.astype(np.int32)),
            pa.StructArray.from_arrays([pa.array(document), pa.array(spans)], fields=list(PIECE)),
        )
        arrays: list[Any] = [
            pa.array(self._codes[source]),
            pa.FixedSizeListArray.from_arrays(pa.array(tokens.reshape(-1)), room),
            pa.array(length),
            pieces,
        ]
        if mask is not None:
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(mask.reshape(-1)), room))
        return pa.record_batch(arrays, schema=self.wire_schema)

    def _rows(self, number: int, ranks: Ints) -> Ints:
        """Returns the numbers of a source's packed rows at these ascending ranks."""
        order = self._orders[number]
        if order.scattered(ranks):
            return order.rows_at(ranks)
        out = np.empty(len(ranks), np.int64)
        with self._lock:
            for run in order.runs(ranks):
                out[run.at] = self._window(number, run.epoch, run.window)[run.rows]
        return out

    def _window(self, number: int, epoch: int, window: int) -> Ints:
        """Returns the numbers of a source's packed rows in a window of its order."""
        key = (number, epoch, window)
        rows = self._open_tokens.get(key)
        if rows is None:
            ranges = self._orders[number].ranges(epoch, window)
            rows = self._open_tokens[key] = np.concatenate([np.arange(a, b, dtype=np.int64) for a, b in ranges])
            while len(self._open_tokens) > _WINDOWS_HELD + len(self._orders):
                self._open_tokens.popitem(last=False)
        else:
            self._open_tokens.move_to_end(key)
        return rows

    def read(self, start: int, stop: int) -> pa.RecordBatch:
        """Returns the packed rows at positions start … stop-1."""
        if not 0 <= start <= stop:
            raise OutOfRangeError(f"Positions {start} to {stop} are not a range.", remedy="Give 0 <= start <= stop.")
        return self.read_at(np.arange(start, stop, dtype=np.int64))


def _windows(flat: npt.NDArray[Any], room: int) -> npt.NDArray[Any] | None:
    """Returns all slices of `room` consecutive values, as a view. Returns None if the array is shorter than `room`."""
    return np.lib.stride_tricks.sliding_window_view(flat, room) if len(flat) >= room else None


def _copy_rows(
    flat: npt.NDArray[Any], windows: npt.NDArray[Any] | None, rows: PackedRows, sizes: Ints, room: int
) -> npt.NDArray[Any]:
    """Copies packed rows from the flat array, padded with 0. A full row of contiguous tokens is copied as one slice."""
    heads = rows.offsets[:-1]
    whole = sizes == room
    if len(rows.start) > len(heads):
        follows = np.ones(len(rows.start), bool)
        np.equal(rows.start[1:], rows.start[:-1] + rows.length[:-1], out=follows[1:])
        follows[heads] = True
        whole &= np.logical_and.reduceat(follows, heads)
    starts = rows.start[heads]
    if windows is not None and whole.all():
        return np.asarray(windows[starts])
    out = np.zeros((len(heads), room), flat.dtype)
    if windows is not None and whole.any():
        out[whole] = windows[starts[whole]]
    counts = rows.offsets[1:] - heads
    cut = np.repeat(~whole, counts)
    start, length = rows.start[cut], rows.length[cut]
    before = np.cumsum(length) - length
    into = np.flatnonzero(~whole) * room - (np.cumsum(sizes[~whole]) - sizes[~whole])
    into = np.repeat(into, counts[~whole]) + before
    step = np.arange(int(length.sum())) - np.repeat(before, length)
    out.reshape(-1)[np.repeat(into, length) + step] = flat[np.repeat(start, length) + step]
    return out
