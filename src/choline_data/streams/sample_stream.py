"""Reads the samples at given positions. Computes their sources and rows, picks the rows from windows, and puts them in the
order of the stream. A window is a group of blocks of one source that is read at once.

The server and the embedded client both run this code. A test checks that their samples are byte-identical.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from choline_data import schema as one
from choline_data.columns.arrow_values import dtype_of, is_large, numbers
from choline_data.columns.gather import Piece, assemble, node_of
from choline_data.columns.gathered import Column
from choline_data.columns.parts import ArrowParts, Parts
from choline_data.columns.row_ranges import cut_at, numbers_in, ranges_of, runs_of
from choline_data.errors import DamagedStoreError, OutOfRangeError, RevisionGoneError, UnknownFieldError
from choline_data.order import Plan, RunPlan, SourceOrder
from choline_data.order.permute import Ints
from choline_data.order.recipe import Recipe, RecipeSource
from choline_data.order.source import WindowRows
from choline_data.places.mapped import MappedFile, steady
from choline_data.process.pages import PAGES
from choline_data.process.work import pause
from choline_data.store import Revision
from choline_data.store.faults import naming
from choline_data.store.windows import Store, Window
from choline_data.streams import wire


@contextmanager
def _name_dataset_in_errors(source: RecipeSource) -> Iterator[None]:
    """Context manager: adds the dataset's name to errors about a removed or damaged revision."""
    try:
        with naming(source.dataset):
            yield
    except RevisionGoneError as error:
        raise RevisionGoneError(source.dataset, source.revision) from error


@dataclass(frozen=True)
class _StreamSource:
    """One source of the stream: its order, the ranges of its rows, and its constant columns."""

    spec: RecipeSource
    order: SourceOrder
    revision: Revision
    spans: Ints  # a matrix of ranges [start, stop)
    selection: npt.NDArray[np.int64] | None
    # the integer that stands for `dataset` on the wire; and the one for `kind`, if all rows have the same kind
    codes: dict[str, int]
    constants: dict[str, Any]  # for each column that is constant or that the source lacks: a node with one row
    # A window's key in the shared cache consists of this tuple, the epoch and the number of the window.
    window_key: tuple[object, ...]


class _SourceRows:
    """The rows that one source contributes to a batch, and their places in the batch.

    `runs` has the rows that lie near each other: they are picked from cached windows. `apart` has the row ranges of
    rows that lie far apart, because loading a whole window for each of them costs too much. These rows are read as a
    window of their own, which only this batch uses.
    """

    __slots__ = ("apart", "places", "runs", "served", "windows")

    def __init__(self, served: _StreamSource, places: Ints, runs: list[WindowRows], apart: Ints | None = None) -> None:
        self.served = served
        self.places = places
        self.runs = runs
        self.apart = apart
        self.windows: list[Window | None] = [None] * len(runs)


@dataclass(frozen=True)
class LocatedSamples:
    """Samples of a stream whose rows in the store are known but not read yet. `SampleStream.gather` makes a batch of
    them.
    """

    count: int
    picked: Sequence[_SourceRows]

    @property
    def files(self) -> list[MappedFile]:
        """The mapped files that the loaded windows of these samples refer to."""
        windows = dict.fromkeys(
            window for source_rows in self.picked for window in source_rows.windows if window is not None
        )
        return list(dict.fromkeys(file for window in windows for file in window.files))

    @property
    def bytes_apart(self) -> int:
        """The memory of the loaded windows that only these samples use, without mapped files."""
        windows = [
            window for source_rows in self.picked if source_rows.apart is not None for window in source_rows.windows
        ]
        return sum(window.nbytes for window in windows if window is not None)


class SampleStream:
    """The samples of a recipe by position. It has no current position, so threads can share it."""

    def __init__(self, store: Store, recipe: Recipe, columns: Sequence[str] | None = None) -> None:
        self.recipe = recipe
        self.plan = recipe.plan()
        self._store = store
        self._served = []
        for source in recipe.sources:
            with _name_dataset_in_errors(source):
                self._served.append(self._open(source))
        stored = {c for s in self._served for c in (*s.revision.columns, *s.revision.constants)}
        there = {"id", "dataset", "kind", "origin"} | stored
        if columns is not None:
            for column in columns:
                if column not in one.SCHEMA.names:
                    raise UnknownFieldError(column, one.SCHEMA.names, where="columns")
            there = {"id", "dataset"} | set(columns)
        self.datasets = tuple(sorted({s.spec.dataset for s in self._served}))
        self.schema = pa.schema([f for f in one.SCHEMA if f.name in there], metadata=one.SCHEMA.metadata)
        self.wire_schema = wire.schema_on_the_wire(self.schema)
        self._shared_nodes: dict[tuple[str, str | None], Any] = {}
        self._constant: dict[tuple[int, int], Column] = {}
        self._served = [self._with_constants(served) for served in self._served]

    @property
    def length(self) -> int | None:
        """The number of positions. None if the stream has no end."""
        return self.plan.length

    def _open(self, source: RecipeSource) -> _StreamSource:
        pause()
        revision = self._store.revision(source.revision)
        spans = ranges_of(revision.spans(source.split, source.config))
        selection = None
        if source.where:
            from choline_data.where.selection import selected_rows

            selection = selected_rows(self._store.home, revision, source.where)
            inside = np.zeros(len(selection), dtype=bool)
            for start, end in spans.tolist():
                inside |= (selection >= start) & (selection < end)
            selection = selection[inside]
        rows = len(selection) if selection is not None else int((spans[:, 1] - spans[:, 0]).sum())
        if rows != source.rows:
            raise DamagedStoreError(
                f"{source.name}: the recipe has {source.rows} rows, the store has {rows}.",
                remedy="Run `choline-data repair`. If nothing is damaged, the recipe comes from another home: resolve the mix "
                "again.",
            )
        order = SourceOrder(
            source.rows,
            source.block_rows,
            seed=self.recipe.row_seed,
            key=source.key,
            shuffle=self.recipe.shuffle,
            picks=self._store.picks,
        )
        return _StreamSource(source, order, revision, spans, selection, {}, {}, ())

    def _with_constants(self, served: _StreamSource) -> _StreamSource:
        revision = served.revision
        codes = {"dataset": self.datasets.index(served.spec.dataset)}
        shared = self._shared_nodes
        constants: dict[str, Any] = {}
        for field in self.schema:
            if field.name in revision.schema.names or field.name == "dataset":
                continue
            if field.name == "kind":
                codes["kind"] = one.KINDS.index(revision.constants["kind"])
                constants["kind"] = _same(revision.constants["kind"], pa.string())
            else:
                value = revision.constants.get(field.name)
                if (field.name, value) not in shared:
                    shared[field.name, value] = _same(value, field.type)
                constants[field.name] = shared[field.name, value]
        names = [f.name for f in revision.schema if f.name in self.schema.names]
        key = (served.spec.key, self.recipe.row_seed, self.recipe.shuffle, served.spec.block_rows, *names)
        return replace(served, codes=codes, constants=constants, window_key=key)

    def _parts(
        self, served: _StreamSource, ranges: Ints, names: Sequence[str], touched: list[MappedFile]
    ) -> dict[str, Parts]:
        """Returns columns of row ranges of a source. `ranges` count only the rows that the source serves.

        Adds the mapped files that contain these rows to `touched`.
        """
        if served.selection is not None:
            ranges = runs_of(served.selection[numbers_in(ranges[:, 0], ranges[:, 1] - ranges[:, 0])])
        else:
            sizes = served.spans[:, 1] - served.spans[:, 0]
            edges = np.concatenate(([0], np.cumsum(sizes)))
            ranges, span = cut_at(ranges, edges)
            ranges = ranges + (served.spans[:, 0] - edges[:-1])[span, None]
        return served.revision.columns_of(ranges, names, touched)

    def _window(self, served: _StreamSource, ranges: Ints) -> Window:
        names = [name for name in served.revision.schema.names if name in self.schema.names]
        touched: list[MappedFile] = []

        def read() -> Window:
            touched.clear()
            parts = self._parts(served, ranges, names, touched)
            return Window(served.revision.schema, parts, touched)

        with _name_dataset_in_errors(served.spec):
            return steady(read, touched)

    def _load(self, served: _StreamSource, epoch: int, window: int) -> Window:
        def load() -> Window:
            return self._window(served, ranges_of(served.order.ranges(epoch, window)))

        loaded = self._store.windows.get(self._key(served, epoch, window), load)
        PAGES.look()
        return loaded

    def _key(self, served: _StreamSource, epoch: int, window: int) -> tuple[object, ...]:
        return (*served.window_key, epoch, window)

    def placed(self, positions: Ints) -> tuple[npt.NDArray[np.uint16], Ints]:
        """Returns, for each of these ascending positions, the index of its source in `recipe.sources`, and the number of
        the sample among the samples of that source.
        """
        return placed(self.plan, positions)

    def locate(self, positions: Ints) -> LocatedSamples:
        """Finds the rows of the samples at these ascending positions. Reads no rows."""
        source, rank = self.placed(positions)
        by_source = np.argsort(source, kind="stable")
        ends = np.cumsum(np.bincount(source, minlength=len(self._served)))
        picked: list[_SourceRows] = []
        first = 0
        for served, end in zip(self._served, ends.tolist(), strict=True):
            if end > first:
                pause()
                places = by_source[first:end]
                ranks = rank[places]
                if served.order.scattered(ranks):
                    picked.append(_scattered_rows(served, places, served.order.rows_at(ranks)))
                else:
                    picked.append(_SourceRows(served, places, list(served.order.runs(ranks))))
            first = end
        return LocatedSamples(len(positions), picked)

    def ready(self, located: LocatedSamples) -> bool:
        """Returns whether every window of these samples is in memory. `located` keeps a reference to the windows, for
        `gather`.
        """
        for picked in located.picked:
            for number, run in enumerate(picked.runs):
                if picked.windows[number] is None:
                    if picked.apart is not None:
                        return False
                    window = self._store.windows.cached(self._key(picked.served, run.epoch, run.window))
                    if window is None:
                        return False
                    picked.windows[number] = window
        return True

    def load(self, located: LocatedSamples) -> None:
        """Loads the windows of these samples into memory."""
        for picked in located.picked:
            for number, run in enumerate(picked.runs):
                if picked.windows[number] is not None:
                    continue
                if picked.apart is not None:
                    picked.windows[number] = self._window(picked.served, picked.apart)
                else:
                    picked.windows[number] = self._load(picked.served, run.epoch, run.window)

    def upcoming(self, located: LocatedSamples) -> list[Callable[[], object]]:
        """Returns functions that prefetch the next window, one for each source that will soon need it.

        A source will need it if these samples are past the middle of its window, and nobody loads the next window yet.
        """
        out: list[Callable[[], object]] = []
        for picked in located.picked:
            run, order = picked.runs[-1], picked.served.order
            window = picked.windows[-1]
            if picked.apart is not None or window is None or window.opened_next or not order.past_half(run):
                continue
            window.opened_next = True
            after = order.following(run, self.plan.length is None)
            if after is not None and self._store.windows.needs_loading(self._key(picked.served, *after)):
                out.append(partial(self._load, picked.served, *after))
        return out

    def gather(self, located: LocatedSamples) -> list[Column]:
        """Picks the located samples, in order. Returns one column for each field of the wire schema.

        The columns may refer to the mapped files of `located`. Read them only within `steady` over these files.
        """
        self.load(located)
        return [self._column(f, located.picked, located.count) for f in self.wire_schema]

    def read_at(self, positions: Ints) -> pa.RecordBatch:
        """Returns the samples at these ascending positions, in order, in the wire schema."""
        if not len(positions):
            return _empty(self.wire_schema)
        columns, _ = self._whole(positions, Column.to_arrow)
        return pa.record_batch(columns, schema=self.wire_schema)

    def views_at(self, positions: Ints) -> tuple[pa.RecordBatch, Sequence[MappedFile]]:
        """Returns the samples at these ascending positions as views into mapped files, and these files. Copies no strings or bytes.

        For use within this process only. Read values from the views only within `steady` over the files.
        """
        columns, files = self._whole(positions, Column.to_views)
        return pa.record_batch(columns, names=self.wire_schema.names), files

    def _whole(
        self, positions: Ints, whole_batch: Callable[[Column], pa.Array]
    ) -> tuple[list[pa.Array], Sequence[MappedFile]]:
        files: list[MappedFile] = []

        def read() -> list[pa.Array]:
            located = self.locate(positions)
            self.load(located)
            files[:] = located.files
            return [whole_batch(column) for column in self.gather(located)]

        try:
            return steady(read, files), files
        except DamagedStoreError:
            if not any(file.replaced() for file in files):
                raise
        # The second read opens the file again. A repair may have replaced the damaged file.
        return steady(read, files), files

    def _column(self, field: pa.Field, picked: Sequence[_SourceRows], count: int) -> Column:
        """Returns one column of the batch, with each source's rows at their places.

        A missing column is filled with its constant.
        """
        pause()
        coded = field.name in ("dataset", "kind")
        if coded and all(field.name in source_rows.served.codes for source_rows in picked):
            codes = np.empty(count, dtype_of(field.type))
            for source_rows in picked:
                codes[source_rows.places] = source_rows.served.codes[field.name]
            return Column(field.type, count, None, None, codes)
        same = [source_rows.served.constants.get(field.name) for source_rows in picked]
        if not coded and same[0] is not None and all(node is same[0] for node in same):
            return self._constant_column(field, same[0], count)
        pieces: list[Piece] = []
        kind = pa.string() if coded else field.type
        for constant, source_rows in zip(same, picked, strict=True):
            places = source_rows.places
            if constant is not None:
                pieces.append(Piece(constant, np.zeros(len(places), np.int64), places))
                continue
            for run, window in zip(source_rows.runs, source_rows.windows, strict=True):
                assert window is not None
                pieces.append(Piece(window.nodes[field.name], run.rows, places[run.at]))
        column = assemble(kind, pieces, count)
        if not coded:
            return column
        codes = numbers(pc.index_in(column.to_arrow(), pa.array(one.KINDS, pa.string())).cast(pa.int8()))
        return Column(field.type, count, None, None, codes)

    def _constant_column(self, field: pa.Field, node: Any, count: int) -> Column:
        """Returns a column with the same value in all rows. Caches it by value and row count."""
        key = (id(node), count)  # The stream keeps the node alive, so no other object gets the same `id()`.
        column = self._constant.get(key)
        if column is None:
            every = np.arange(count, dtype=np.int64)
            column = assemble(field.type, [Piece(node, np.zeros(count, np.int64), every)], count)
            if len(self._constant) > 256:
                self._constant.clear()
            self._constant[key] = column
        return column

    def read(self, start: int, stop: int) -> pa.RecordBatch:
        """Returns the samples at positions start … stop-1."""
        if not 0 <= start <= stop:
            raise OutOfRangeError(f"Positions {start} to {stop} are not a range.", remedy="Give 0 <= start <= stop.")
        return self.read_at(np.arange(start, stop, dtype=np.int64))

    @property
    def lost(self) -> bool:
        """Returns False: this stream opens files whenever it reads samples, so a replaced file does not end it."""
        return False

    def mean_row_bytes(self) -> float:
        """Returns the approximate mean size of a sample in bytes, by the weights of the first segment. Used to plan
        message sizes.
        """
        weights = self.recipe.segments[0].weights
        total = sum(weights.values())
        return sum(
            weights.get(s.spec.name, 0) / total * s.revision.bytes / max(s.revision.rows, 1) for s in self._served
        )


def placed(plan: Plan | RunPlan, positions: Ints) -> tuple[npt.NDArray[np.uint16], Ints]:
    """Returns the source of each of these ascending positions, and the number of the sample in that source.

    If the positions are consecutive and lie in one piece of the plan, no array is copied.
    """
    start, stop = int(positions[0]), int(positions[-1]) + 1
    if stop - start > len(positions):
        return plan.at(positions)
    pieces = list(plan.place(start, stop))
    if len(pieces) == 1:
        return pieces[0].source, pieces[0].rank
    return np.concatenate([p.source for p in pieces]), np.concatenate([p.rank for p in pieces])


def _scattered_rows(served: _StreamSource, places: Ints, rows: Ints) -> _SourceRows:
    """Returns the rows of a source that lie far apart. Only these rows are read, each as a range of one row."""
    ascending, back = np.unique(rows, return_inverse=True)
    run = WindowRows(0, 0, slice(0, len(rows)), back, 0)
    return _SourceRows(served, places, [run], np.column_stack((ascending, ascending + 1)))


def _same(value: str | None, kind: pa.DataType) -> Any:
    """Returns a column of one row with this value. Avoids `pa.array` and `pa.scalar`, which import pandas if it is
    installed.
    """
    if value is None:
        return node_of(kind, ArrowParts(kind, [pa.nulls(1, kind)]))
    raw = value.encode()
    ends = np.array([0, len(raw)], np.int64 if is_large(kind) else np.int32)
    row = pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(ends), pa.py_buffer(raw)])
    return node_of(kind, ArrowParts(kind, [row]))


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([pa.array([], f.type) for f in schema], schema=schema)
