"""NetCDF, MATLAB 7.3 and sparse matrices: content, damage and what is refused. Truth comes from the libraries that wrote them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.tables.hdf5 import Hdf5
from choline_data.adapters.tables.matlab import Matlab
from choline_data.adapters.tables.netcdf import NetCdf
from choline_data.adapters.tables.numpy_arrays import NumpyArrays
from choline_data.adapters.tables.sparse_matrices import MatrixMarket
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceTooLargeError

h5py = pytest.importorskip("h5py")
sparse = pytest.importorskip("scipy.sparse")
scipy_io = pytest.importorskip("scipy.io")

VALUES = np.arange(24, dtype=np.int16).reshape(4, 3, 2)


def netcdf3(path: Path, *, records: bool = True) -> Path:
    with scipy_io.netcdf_file(path, "w", version=1) as file:
        file.createDimension("time", None if records else 4)
        for name, size in (("y", 3), ("x", 2), ("letters", 3)):
            file.createDimension(name, size)
        packed = file.createVariable("packed", "i2", ("time", "y", "x"))
        packed.scale_factor, packed.add_offset, packed._FillValue = 0.5, 10.0, np.int16(5)
        packed[:] = VALUES
        file.createVariable("y", "f8", ("y",))[:] = [1, 2, 3]
        file.createVariable("time", "i4", ("time",))[:] = [0, 6, 12, 18]
        words = np.array([list("ab\0"), list("cde"), list("f\0\0"), list("\0\0\0")], "S1")
        file.createVariable("word", "c", ("time", "letters"))[:] = words
    return path


def netcdf4(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["_NCProperties"] = "version=2"
        for name, values in (("time", [0, 6, 12, 18]), ("y", [1.0, 2.0, 3.0])):
            file[name] = np.array(values, "i4" if name == "time" else "f8")
            file[name].make_scale(name)
        file["x"] = np.zeros(2)
        file["x"].make_scale("This is a netCDF dimension but not a netCDF variable         2")
        file["packed"] = VALUES
        file["packed"].attrs.update({"scale_factor": 0.5, "add_offset": 10.0, "_FillValue": np.array([5], "i2")})
        for axis, name in enumerate(("time", "y", "x")):
            file["packed"].dims[axis].attach_scale(file[name])
        file["word"] = ["ab", "cde", "f", ""]
        file["word"].dims[0].attach_scale(file["time"])
    return path


def expected(row: int) -> dict[str, Any]:
    packed = [[None if v == 5 else v * 0.5 + 10 for v in line] for line in VALUES[row].tolist()]
    return {"packed": packed, "y": [1.0, 2.0, 3.0], "time": 6 * row, "word": ["ab", "cde", "f", ""][row]}


@pytest.mark.parametrize("records", [True, False], ids=["records", "fixed"])
def test_netcdf_3_is_unpacked_by_rows_of_the_first_dimension(
    records: bool, tmp_path: Path, read: Callable[..., Any]
) -> None:
    found = read(NetCdf(), netcdf3(tmp_path / "a.nc", records=records))
    assert found.error is None
    assert found.rows == [expected(row) for row in range(4)]


def test_netcdf_4_is_read_as_netcdf_3(tmp_path: Path, read: Callable[..., Any]) -> None:
    found = read(Hdf5(), netcdf4(tmp_path / "a.nc"))
    assert found.error is None
    assert found.rows == [expected(row) for row in range(4)]


def test_values_that_were_never_written_are_null_and_single_characters_are_text(
    tmp_path: Path, read: Callable[..., Any]
) -> None:
    with scipy_io.netcdf_file(tmp_path / "a.nc", "w") as file:
        file.createDimension("x", 2)
        file.createVariable("v", "f4", ("x",))[:] = [9.969209968386869e36, 1.5]
        file.createVariable("letter", "c", ("x",))[:] = np.array(["a", "b"], "S1")
    assert read(NetCdf(), tmp_path / "a.nc").rows == [{"letter": "a"}, {"v": 1.5, "letter": "b"}]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_netcdf_file_is_damaged(share: float, tmp_path: Path, read: Callable[..., Any]) -> None:
    path = netcdf3(tmp_path / "a.nc")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert isinstance(read(NetCdf(), path).error, SourceDamagedError)


def test_variables_of_two_tables_and_groups_are_refused(tmp_path: Path, read: Callable[..., Any]) -> None:
    with scipy_io.netcdf_file(tmp_path / "a.nc", "w") as file:
        for name in ("a", "b"):
            file.createDimension(name, 3)
            file.createVariable(f"of_{name}", "i4", (name,))[:] = [1, 2, 3]
    found = read(NetCdf(), tmp_path / "a.nc")
    assert isinstance(found.error, SourceFormatError)
    assert "of_b (b) is in another table" in str(found.error)
    with h5py.File(netcdf4(tmp_path / "b.nc"), "a") as file:
        file["group/inner"] = [1, 2]
    found = read(Hdf5(), tmp_path / "b.nc")
    assert "has groups" in str(found.error)


def matlab73(path: Path, variables: dict[str, Any], *, rewrite: Callable[[Any], None] | None = None) -> Path:
    """Writes variables as MATLAB does: transposed, with the class of each as an attribute."""
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")

        def put(where: Any, name: str, value: Any) -> None:
            if isinstance(value, dict):
                group = where.create_group(name)
                group.attrs["MATLAB_class"] = np.bytes_("struct")
                for key, item in value.items():
                    put(group, key, item)
                return
            if isinstance(value, str):
                where[name] = np.frombuffer(value.encode("utf-16-le"), "u2")[:, None]
                where[name].attrs["MATLAB_class"] = np.bytes_("char")
                return
            if isinstance(value, list):
                places = []
                for item in value:
                    place = f"r{len(refs)}"
                    put(refs, place, item)
                    places.append(refs[place].ref)
                where.create_dataset(name, data=np.array([places], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
                where[name].attrs["MATLAB_class"] = np.bytes_("cell")
                return
            array = np.asarray(value)
            where[name] = array.astype("u1").T if array.dtype == bool else array.T
            kind = {"f": "double", "i": "int32", "u": "uint8", "b": "logical"}[array.dtype.kind]
            where[name].attrs["MATLAB_class"] = np.bytes_(kind)

        for name, value in variables.items():
            put(file, name, value)
        if rewrite is not None:
            rewrite(file)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def test_variables_of_matlab_73_are_columns(tmp_path: Path, read: Callable[..., Any]) -> None:
    values = {
        "X": np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.5]]),
        "y": np.array([[1], [2]], "i4"),
        "ok": np.array([[True], [False]]),
        "names": ["é", "東京"],
        "s": {"w": np.array([[7.5], [8.5]])},
    }
    found = read(Matlab(), matlab73(tmp_path / "a.mat", values))
    assert found.error is None
    assert found.rows == [
        {"X": [0.0, 1.0, 2.0], "y": 1, "ok": True, "names": "é", "s.w": 7.5},
        {"X": [3.0, 4.0, 5.5], "y": 2, "ok": False, "names": "東京", "s.w": 8.5},
    ]


@pytest.mark.parametrize("attribute", ["MATLAB_object_decode", "MATLAB_sparse"])
def test_objects_and_sparse_matrices_of_matlab_73_are_refused(
    attribute: str, tmp_path: Path, read: Callable[..., Any]
) -> None:
    def mark(file: Any) -> None:
        item = file["X"] if attribute == "MATLAB_object_decode" else file["s"]
        item.attrs[attribute] = 3

    values = {"X": np.zeros((4, 2)), "s": {"w": np.zeros((4, 1))}}
    found = read(Matlab(), matlab73(tmp_path / "a.mat", values, rewrite=mark))
    assert isinstance(found.error, SourceFormatError)
    assert "object" in str(found.error) or "sparse" in str(found.error)


def test_a_cut_file_of_matlab_73_is_damaged(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = matlab73(tmp_path / "a.mat", {"X": np.zeros((400, 20))})
    path.write_bytes(path.read_bytes()[:20_000])
    assert isinstance(read(Matlab(), path).error, SourceDamagedError)


MATRIX = np.array([[0, 1.5, 0, 0], [0, 0, 0, 0], [2, 0, 3, 0], [0, 0, 0, 4]])
ROWS = [
    {"indices": [1], "values": [1.5], "size": 4},
    {"indices": [], "values": [], "size": 4},
    {"indices": [0, 2], "values": [2.0, 3.0], "size": 4},
    {"indices": [3], "values": [4.0], "size": 4},
]


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
def test_each_kind_of_saved_matrix_has_the_same_rows(kind: str, tmp_path: Path, read: Callable[..., Any]) -> None:
    sparse.save_npz(tmp_path / "a.npz", sparse.csr_matrix(MATRIX).asformat(kind))
    kept = [
        {**row, "indices": [i for i, v in pairs if v], "values": [v for _, v in pairs if v]}
        for row in read(NumpyArrays(), tmp_path / "a.npz").rows
        for pairs in [list(zip(row["indices"], row["values"], strict=True))]
    ]
    assert kept == ROWS  # blocks and diagonals also store zeros


def test_matrix_market_has_a_row_for_each_row(tmp_path: Path, read: Callable[..., Any]) -> None:
    scipy_io.mmwrite(tmp_path / "a.mtx", sparse.coo_matrix(MATRIX))
    assert read(MatrixMarket(), tmp_path / "a.mtx").rows == ROWS
    (tmp_path / "b.mtx").write_text("%%MatrixMarket matrix coordinate integer symmetric\n% x\n2 2 2\n1 1 5\n2 1 7\n")
    assert [row["values"] for row in read(MatrixMarket(), tmp_path / "b.mtx").rows] == [[5, 7], [7]]
    scipy_io.mmwrite(tmp_path / "c.mtx", MATRIX)
    assert [row["value"] for row in read(MatrixMarket(), tmp_path / "c.mtx").rows] == MATRIX.tolist()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("%%MatrixMarket matrix coordinate real general\n3 3 2\n1 1 5.0\n", SourceDamagedError),
        ("%%MatrixMarket matrix coordinate real general\n3 3 1\n9 1 5.0\n", SourceDamagedError),
        ("%%MatrixMarket matrix coordinate real general\nx\n", SourceDamagedError),
        ("%%MatrixMarket matrix coordinate complex general\n1 1 1\n1 1 1 1\n", SourceFormatError),
        ("%%MatrixMarket matrix coordinate real general\n999999999999 3 1\n1 1 5.0\n", SourceTooLargeError),
        ("%%MatrixMarket matrix array real general\n99999999 99999999\n1\n", SourceTooLargeError),
    ],
)
def test_a_matrix_that_is_none_is_an_error_without_much_memory(
    text: str, error: type[Exception], tmp_path: Path, read: Callable[..., Any]
) -> None:
    (tmp_path / "a.mtx").write_text(text)
    read(MatrixMarket(), tmp_path / "a.mtx")  # the library is loaded before the memory counts
    tracemalloc.start()
    found = read(MatrixMarket(), tmp_path / "a.mtx")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found.error, error)
    assert peak < 16 << 20


class TestNetCdf(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return NetCdf()

    @pytest.fixture
    def files(self, tmp_path: Path, source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        return [source_file(netcdf3(tmp_path / "a.nc")), source_file(netcdf3(tmp_path / "b.nc", records=False))]


class TestMatrixMarket(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return MatrixMarket()

    @pytest.fixture
    def files(self, tmp_path: Path, source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        scipy_io.mmwrite(tmp_path / "a.mtx", sparse.random(300, 40, 0.1, random_state=1))
        return [source_file(tmp_path / "a.mtx")]
