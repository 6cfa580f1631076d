"""Reads HDF5 with h5py: datasets with the same first axis are the columns of a table, a row for each index of that axis.

Groups whose names are splits are splits. Groups that repeat the same datasets, such as the episodes of a robot, are one table
with the group's name in the column `group`. Other groups are tables of their own. Links to other files are never followed.
NetCDF 4 is read as NetCDF 3. pandas stores, AnnData and models are refused by name, because their arrays mean more than their
values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.tables.array_columns import batch_of, step_of
from choline_data.adapters.tables.array_tables import ArrayInfo, ArrayTable, tables_of
from choline_data.adapters.tables.hdf5_values import piece_of
from choline_data.adapters.tables.netcdf import is_netcdf4, netcdf4_batches
from choline_data.adapters.tables.table_batches import batch_chunks, claim_tables, local_file
from choline_data.errors import MissingDependencyError, SourceDamagedError, SourceFormatError, one_line

MAX_DATASETS = 200_000
_TEXT_BYTES = 256  # the assumed mean size of a value of variable length, in bytes
_AS_TABLE = "Convert it to Parquet, CSV or JSON Lines with {}."
# Attributes by which other kinds of files are recognised, the name of the kind, and what the user can do.
_OTHERS = (
    ("encoding-type", "AnnData", _AS_TABLE.format("anndata.read_h5ad(FILE).to_df()")),
    ("keras_version", "a Keras model", "It is a model, not a dataset."),
    ("layer_names", "the weights of a Keras model", "It is a model, not a dataset."),
    ("model_config", "a Keras model", "It is a model, not a dataset."),
)


@dataclass(frozen=True)
class Hdf5:
    """Reads HDF5 files in slices of their datasets."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each table of each file."""
        shards: list[Shard] = []
        for file in in_order(files):
            with _opened(file.path, file.name) as opened:
                if is_netcdf4(opened):
                    shards.append(Shard(file.path, file.name, size=file.size))
                    continue
                tables = tables_of(_datasets(opened, file.name), file.name)
            shards += [Shard(file.path, file.name, member=t.member, size=file.size, split=t.split) for t in tables]
        return shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows of the table from row `start` on."""
        return batch_chunks(_batches(shard), shard, start)


ADAPTER = Hdf5


def _batches(shard: Shard) -> Iterator[pa.RecordBatch]:
    with _opened(shard.path, shard.name) as file:
        if is_netcdf4(file):
            yield from netcdf4_batches(file, shard.name)
            return
        tables = tables_of(_datasets(file, shard.name), shard.name)
        table = next((t for t in tables if t.member == shard.member), None)
        if table is None:
            raise SourceDamagedError(
                f"{shard.name} has no table {one_line(shard.member, 60)!r}.", remedy="Add it again."
            )
        for run in table.runs:
            yield from _run(file, table, run, shard.origin)


def _run(file: Any, table: ArrayTable, run: str, where: str) -> Iterator[pa.RecordBatch]:
    datasets = {name: file[path] for name, path in table.paths(run).items()}
    first = next(iter(datasets.values()))
    rows = len(first)
    step = step_of(sum(_row_bytes(d) for d in datasets.values()))
    for at in range(0, rows, step):
        pieces = {name: piece_of(dataset, at, min(at + step, rows)) for name, dataset in datasets.items()}
        batch = batch_of(pieces, where)
        if table.is_grouped:
            batch = batch.append_column("group", pa.array([run.rsplit("/", 1)[-1]] * batch.num_rows, pa.string()))
        yield batch


def _row_bytes(dataset: Any) -> int:
    size = _TEXT_BYTES if dataset.dtype.kind == "O" else dataset.dtype.itemsize
    return int(np.prod(dataset.shape[1:], dtype=object)) * size


def _datasets(file: Any, name: str) -> list[ArrayInfo]:
    """Returns the datasets of a file in the order of their paths. Raises SourceFormatError for features whose meaning
    HDF5 alone does not define.
    """
    import h5py

    _refuse_others(file.attrs, name)
    infos: list[ArrayInfo] = []

    def visit(path: str, item: Any) -> None:
        _refuse_others(item.attrs, name)
        if "pandas_type" in item.attrs:
            raise SourceFormatError(
                f"{name} is a pandas store (HDFStore).",
                remedy=_AS_TABLE.format("pandas.read_hdf(FILE, KEY).to_parquet"),
            )
        if not isinstance(item, h5py.Dataset):
            return
        if item.attrs.get("CLASS") == b"DIMENSION_SCALE":
            raise SourceFormatError(
                f"{name} has dimension scales in groups, like a NetCDF 4 file.",
                remedy=_AS_TABLE.format("xarray.open_dataset(FILE, group=…).to_dataframe()"),
            )
        if item.external or item.is_virtual:
            raise SourceFormatError(
                f"{name}: {path} is stored in other files.", remedy="Copy it into one file with h5repack or h5py."
            )
        if item.dtype.kind == "O" and h5py.check_ref_dtype(item.dtype) is not None:
            raise SourceFormatError(
                f"{name}: {path} contains references to other objects.", remedy=_AS_TABLE.format("h5py")
            )
        if len(infos) == MAX_DATASETS:
            raise SourceFormatError(f"{name} has more than {MAX_DATASETS:,} datasets.", remedy=_AS_TABLE.format("h5py"))
        infos.append(ArrayInfo(path, item.shape or (), str(item.dtype)))

    file.visititems(visit)
    return infos


def _refuse_others(attributes: Any, name: str) -> None:
    for attribute, what, remedy in _OTHERS:
        if attribute in attributes:
            raise SourceFormatError(f"{name} is {what}.", remedy=remedy)


@contextmanager
def _opened(path: str, name: str) -> Iterator[Any]:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise MissingDependencyError("arrays", "Reading HDF5") from error
    with local_file(path, name) as local:
        try:
            with h5py.File(local, "r", locking=False) as file:
                yield file
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise SourceDamagedError(
                f"{name}: not readable as HDF5: {one_line(error, 160)}.", remedy="Fetch it again."
            ) from error


def detect(source: Source) -> list[FormatClaim]:
    """Claims the HDF5 files."""
    return claim_tables(source, Hdf5(), "the content is HDF5")
