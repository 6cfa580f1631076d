"""Binary tables that other libraries wrote, compared with what these libraries read; and damaged ones."""

from __future__ import annotations

import datetime
import importlib
import io as stdio
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import orc

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.tables.duckdb_file import DuckDbFile
from choline_data.adapters.tables.numpy_arrays import NumpyArrays
from choline_data.adapters.tables.orc import Orc
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import IngestPlan, Wishes, plan_source
from choline_data.errors import ChoiceNeededError, DataError, SourceDamagedError, SourceFormatError, SourceTooLargeError

TABLE = pa.table(
    {
        "n": pa.array(range(5000), pa.int32()),
        "text": [f"text {n} é" if n % 7 else None for n in range(5000)],
        "list": [[n, n + 1] for n in range(5000)],
        "day": pa.array([datetime.date(2024, 1, 1 + n % 28) for n in range(5000)]),
    }
)
FRAME = {"n": [1, 2, 3], "x": [0.5, None, 2.5], "s": ["a", "b", "é"]}


def plan(path: Path) -> IngestPlan:
    return plan_source(resolve(str(path)), "x", Wishes())


def adapter_of(name: str) -> Adapter:
    """The adapter of a format whose library may not be installed."""
    module = {"avro": "fastavro", "excel": "python_calamine", "statistics": "pyreadstat"}[name]
    pytest.importorskip(module)
    file = {"statistics": "statistics_files"}.get(name, name)
    found: Adapter = importlib.import_module(f"choline_data.adapters.tables.{file}").ADAPTER()
    return found


def test_orc_comes_back(tmp_path: Path, read: Callable[..., Any]) -> None:
    orc.write_table(TABLE, tmp_path / "a.orc", stripe_size=1 << 14)
    found = read(Orc(), tmp_path / "a.orc")
    assert found.error is None
    assert found.rows == [{k: v for k, v in row.items() if v is not None} for row in TABLE.to_pylist()]
    assert [type(part.adapter) for part in plan(tmp_path / "a.orc").parts] == [Orc]


@pytest.mark.parametrize("name", ["a.orc", "a.duckdb", "a.npy", "a.npz"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_file_is_an_error(tmp_path: Path, name: str, share: float, read: Callable[..., Any]) -> None:
    path = tmp_path / name
    _written(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    adapter = {"orc": Orc(), "duckdb": DuckDbFile()}.get(name.split(".")[1], NumpyArrays())
    assert isinstance(read(adapter, path).error, DataError)


def _written(path: Path) -> None:
    if path.suffix == ".orc":
        orc.write_table(TABLE, path)
    elif path.suffix == ".duckdb":
        with duckdb.connect(str(path)) as base:
            base.register("source", TABLE)
            base.execute("CREATE TABLE rows AS FROM source")
    elif path.suffix == ".npy":
        np.save(path, np.arange(30000).reshape(-1, 3))
    else:
        np.savez(path, a=np.arange(3000), b=np.ones((3000, 4)))


def test_each_duckdb_table_comes_back_and_no_view_is_run(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "a.db"
    with duckdb.connect(str(path)) as base:
        base.register("source", TABLE)
        base.execute("CREATE TABLE \"the rows\" AS FROM source; CREATE VIEW v AS FROM read_csv('/etc/passwd')")
        base.execute(
            "CREATE SCHEMA s; CREATE TABLE s.more AS SELECT [uuid()] AS ids, 'a'::ENUM('a', 'b') AS e, 5::HUGEINT AS h"
        )
    found = read(DuckDbFile(), path)
    assert found.error is None
    assert found.rows[: len(TABLE)] == [
        {k: v for k, v in row.items() if v is not None} for row in TABLE.to_pylist()
    ] or (found.rows[1:] == [{k: v for k, v in row.items() if v is not None} for row in TABLE.to_pylist()])
    assert found.count == len(TABLE) + 1
    with pytest.raises(ChoiceNeededError, match="the_rows"):
        plan(path)  # two tables with different columns are no dataset


@pytest.mark.parametrize(
    "array",
    [
        np.arange(7),
        np.arange(24, dtype=">f4").reshape(4, 2, 3),
        np.array(["a", "bé"]),
        np.array([True, False]),
        np.array(["2024-01-05", "NaT"], "datetime64[s]"),
        np.asfortranarray(np.arange(12).reshape(4, 3)),
        np.zeros((3, 0)),
        np.float32(2.5),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_come_back(tmp_path: Path, array: np.ndarray, read: Callable[..., Any]) -> None:
    np.save(tmp_path / "a.npy", array)
    found = read(NumpyArrays(), tmp_path / "a.npy")
    assert found.error is None
    rows = [row["value"] for chunk in found.chunks for row in chunk.batch.to_pylist()]
    assert rows == np.atleast_1d(array).tolist()


def test_a_structured_array_has_a_column_for_each_field(tmp_path: Path, read: Callable[..., Any]) -> None:
    array = np.array([(1, "a", (2.5, 3.5)), (2, "b", (4.5, 5.5))], [("n", "i4"), ("s", "U3"), ("p", "f8", 2)])
    np.save(tmp_path / "a.npy", array)
    assert read(NumpyArrays(), tmp_path / "a.npy").rows == [
        {"n": 1, "s": "a", "p": [2.5, 3.5]},
        {"n": 2, "s": "b", "p": [4.5, 5.5]},
    ]


def test_arrays_named_by_splits_are_splits(tmp_path: Path) -> None:
    arrays = {"x_train": np.ones((6, 2, 2), "u1"), "y_train": np.arange(6)}
    arrays |= {"x_test": np.ones((4, 2, 2), "u1"), "y_test": np.arange(4)}
    np.savez_compressed(tmp_path / "mnist.npz", **arrays)
    adapter = NumpyArrays()
    shards = adapter.shards([SourceFile(str(tmp_path / "mnist.npz"), "mnist.npz")])
    found = {s.split: [row for c in adapter.read(s) for row in c.batch.to_pylist()] for s in shards}
    assert {split: len(rows) for split, rows in found.items()} == {"train": 6, "test": 4}
    assert found["train"][5] == {"x": [[1, 1], [1, 1]], "y": 5}


def test_arrays_of_different_lengths_are_no_table(tmp_path: Path, read: Callable[..., Any]) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(3), b=np.arange(4))
    found = read(NumpyArrays(), tmp_path / "a.npz")
    assert isinstance(found.error, SourceFormatError)
    assert "different lengths" in str(found.error)


@pytest.mark.parametrize("file", ["a.npy", "a.npz"])
def test_a_pickle_within_an_array_is_never_loaded(tmp_path: Path, file: str, read: Callable[..., Any]) -> None:
    objects = np.array([{"a": 1}, None], object)
    if file == "a.npy":
        np.save(tmp_path / file, objects, allow_pickle=True)
    else:
        np.savez(tmp_path / file, a=objects)
    found = read(NumpyArrays(), tmp_path / file)
    assert isinstance(found.error, SourceFormatError)
    assert "pickle" in str(found.error)


def test_a_header_that_lies_about_its_size_is_refused(tmp_path: Path, read: Callable[..., Any]) -> None:
    file = stdio.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", file.getvalue() + bytes(64))
    assert isinstance(read(NumpyArrays(), tmp_path / "a.npz").error, SourceTooLargeError)
    (tmp_path / "a.npy").write_bytes(file.getvalue() + bytes(64))
    assert isinstance(read(NumpyArrays(), tmp_path / "a.npy").error, SourceDamagedError)


AVRO = {"type": "record", "name": "r", "fields": [{"name": "n", "type": "long"}, {"name": "s", "type": ["null", "string"]},
        {"name": "l", "type": {"type": "array", "items": "double"}}]}  # fmt: skip


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_avro_comes_back_and_a_cut_file_is_damaged(tmp_path: Path, codec: str, read: Callable[..., Any]) -> None:
    adapter = adapter_of("avro")
    import fastavro

    records = [{"n": n, "s": f"é{n}" if n % 3 else None, "l": [n / 2]} for n in range(9000)]
    with open(tmp_path / "a.avro", "wb") as file:
        fastavro.writer(file, AVRO, records, codec=codec, sync_interval=4000)
    found = read(adapter, tmp_path / "a.avro")
    assert found.error is None
    assert [row for c in found.chunks for row in c.batch.to_pylist()] == records
    data = (tmp_path / "a.avro").read_bytes()
    for end in (len(data) - 1, len(data) - 20, len(data) // 2, 30):
        (tmp_path / "b.avro").write_bytes(data[:end])
        cut = read(adapter, tmp_path / "b.avro")
        assert isinstance(cut.error, SourceDamagedError), end
        assert cut.rows == found.rows[: cut.count]


def test_stata_comes_back(tmp_path: Path, read: Callable[..., Any]) -> None:
    adapter = adapter_of("statistics")
    import pandas as pd

    frame = pd.DataFrame(FRAME).assign(c=pd.Categorical(["no", "yes", "no"]))
    frame.to_stata(tmp_path / "a.dta", write_index=False, version=118)
    found = read(adapter, tmp_path / "a.dta")
    assert found.error is None
    assert [row for c in found.chunks for row in c.batch.to_pylist()] == [
        {"n": 1, "x": 0.5, "s": "a", "c": "no"},
        {"n": 2, "x": None, "s": "b", "c": "yes"},
        {"n": 3, "x": 2.5, "s": "é", "c": "no"},
    ]
    data = (tmp_path / "a.dta").read_bytes()
    (tmp_path / "b.dta").write_bytes(data[: len(data) // 2])
    assert isinstance(read(adapter, tmp_path / "b.dta").error, DataError)


def test_each_visible_sheet_of_a_workbook_comes_back(tmp_path: Path, read: Callable[..., Any]) -> None:
    adapter = adapter_of("excel")
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    day = datetime.datetime(2024, 1, 5, 10, 30)
    for row in (
        ["name", "n", "x", "day", "ok"],
        ["a", 1, 0.5, day, True],
        ["b", 2, None, day, False],
        [None] * 5,
        ["é", 3, 2, day, True],
    ):
        book.active.append(row)  # fmt: skip
    book.create_sheet("hidden").append(["secret"])
    book["hidden"].sheet_state = "hidden"
    book.create_sheet("empty")
    book.save(tmp_path / "a.xlsx")
    found = read(adapter, tmp_path / "a.xlsx")
    assert found.error is None
    assert [row for c in found.chunks for row in c.batch.to_pylist()] == [
        {"name": "a", "n": 1, "x": 0.5, "day": day, "ok": True},
        {"name": "b", "n": 2, "x": None, "day": day, "ok": False},
        {"name": "é", "n": 3, "x": 2.0, "day": day, "ok": True},
    ]
    assert [type(part.adapter) for part in plan(tmp_path / "a.xlsx").parts] == [type(adapter)]


class TestOrc(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return Orc()

    @pytest.fixture
    def files(self, tmp_path: Path, source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        orc.write_table(TABLE, tmp_path / "a.orc", stripe_size=1 << 14)
        return [source_file(tmp_path / "a.orc")]


class TestNumpyArrays(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return NumpyArrays()

    @pytest.fixture
    def files(self, tmp_path: Path, source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        np.save(tmp_path / "a.npy", np.arange(30000).reshape(-1, 3))
        np.savez(tmp_path / "b.npz", a=np.arange(3000), b=np.ones((3000, 4)))
        return [source_file(tmp_path / "a.npy"), source_file(tmp_path / "b.npz")]
