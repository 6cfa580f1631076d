"""Files of arrays: which arrays are columns, splits, episodes or pictures, compared with what the libraries wrote."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.tables.hdf5 import Hdf5
from choline_data.adapters.tables.numpy_arrays import NumpyArrays
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import IngestPlan, Wishes, plan_source
from choline_data.errors import ChoiceNeededError, DataError, MissingDependencyError, SourceFormatError

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 9, 8, 3)).astype("u1")


def plan(path: Path, **wishes: Any) -> IngestPlan:
    return plan_source(resolve(str(path), options=wishes), "x", Wishes(**wishes))


def rows_by_split(found: IngestPlan) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for part in found.parts:
        for shard in part.shards:
            for chunk in part.adapter.read(shard):
                rows.setdefault(shard.split, []).extend(chunk.batch.to_pylist())
    return rows


def hdf5(path: Path, groups: dict[str, Any]) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, values in groups.items():
            file[name] = values
    return path


def test_numpy_files_with_different_names_and_one_length_are_columns(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("test", 2)):
        np.save(tmp_path / f"X_{split}.npy", np.arange(count * 3.0).reshape(count, 3))
        np.save(tmp_path / f"y_{split}.npy", np.arange(count))
    assert rows_by_split(plan(tmp_path)) == {
        split: [{"X": [3.0 * n, 3.0 * n + 1, 3.0 * n + 2], "y": n} for n in range(count)]
        for split, count in (("train", 6), ("test", 2))
    }


def test_numbered_numpy_files_are_parts_of_one_array(tmp_path: Path) -> None:
    for part in range(3):
        np.save(tmp_path / f"part-{part}.npy", np.arange(4) + 4 * part)
    assert [row["value"] for row in rows_by_split(plan(tmp_path))[""]] == list(range(12))


def test_numpy_files_that_may_be_columns_or_rows_are_a_question(tmp_path: Path) -> None:
    np.save(tmp_path / "left.npy", np.arange(4))
    np.save(tmp_path / "right.npy", np.arange(4))
    with pytest.raises(ChoiceNeededError, match="--config-by file"):
        plan(tmp_path)
    assert {shard.config for shard in plan(tmp_path, config_by="file").parts[0].shards} == {"left", "right"}


def test_numpy_files_that_fit_in_no_way_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 2)))
    np.save(tmp_path / "classes.npy", np.array(["a", "b"]))
    with pytest.raises(SourceFormatError, match="neither columns"):
        plan(tmp_path)


@pytest.mark.parametrize("axes", ["channels last", "channels first", "grey"])
def test_pictures_keep_every_pixel(tmp_path: Path, axes: str) -> None:
    image = pytest.importorskip("PIL.Image")
    array = {"channels last": PICTURES, "channels first": np.moveaxis(PICTURES, 3, 1), "grey": PICTURES[..., 0]}[axes]
    np.savez(tmp_path / "a.npz", images=array, labels=np.arange(6, dtype="u1").reshape(6, 1))
    found = plan(tmp_path / "a.npz")
    assert [part.mapping.kind for part in found.parts] == ["image"]
    rows = rows_by_split(found)[""]
    pixels = [np.asarray(image.open(io.BytesIO(row["images"]["bytes"]))) for row in rows]
    assert (np.stack(pixels) == (PICTURES[..., 0] if axes == "grey" else PICTURES)).all()
    assert [row["labels"] for row in rows] == list(range(6))


def test_datasets_of_hdf5_are_columns(tmp_path: Path) -> None:
    path = hdf5(
        tmp_path / "a.h5",
        {"x": np.arange(12.0).reshape(4, 3), "in/big": np.arange(4) + 2**60, "s": ["a", "é", "", "d"], "scale": 2.5},
    )
    assert rows_by_split(plan(path))[""] == [
        {"in/big": 2**60 + n, "s": "aé d"[n].strip(), "x": [3.0 * n, 3.0 * n + 1, 3.0 * n + 2]} for n in range(4)
    ]


def test_groups_and_names_of_splits_are_splits(tmp_path: Path) -> None:
    groups = hdf5(tmp_path / "a.h5", {"train/x": np.arange(4), "test/x": np.arange(2)})
    names = hdf5(tmp_path / "b.h5", {"x_train": np.arange(4), "x_test": np.arange(2)})
    for path in (groups, names):
        assert {s: [row["x"] for row in rows] for s, rows in rows_by_split(plan(path)).items()} == {
            "train": [0, 1, 2, 3],
            "test": [0, 1],
        }


def test_an_array_without_a_split_beside_splits_is_a_question(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", {"x_train": np.arange(4), "x_test": np.arange(2), "classes": [b"a", b"b", b"c"]})
    with pytest.raises(ChoiceNeededError, match="classes"):
        plan(path)


def test_groups_that_repeat_the_same_datasets_are_episodes_of_one_table(tmp_path: Path) -> None:
    groups = {f"data/demo_{n}/{name}": np.arange(3) + 10 * n for n in (0, 2, 10) for name in ("action", "obs/eef")}
    rows = rows_by_split(plan(hdf5(tmp_path / "a.hdf5", groups)))[""]
    assert [row["group"] for row in rows] == ["demo_0"] * 3 + ["demo_2"] * 3 + ["demo_10"] * 3
    assert [row["action"] for row in rows] == [0, 1, 2, 20, 21, 22, 100, 101, 102]
    assert [row["obs/eef"] for row in rows] == [row["action"] for row in rows]


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({f"sample_{n}/image": np.zeros((4, 4)) for n in range(9)} | {"sample_0/label": 1}, "one sample"),
        ({f"image_{n}": np.zeros((4, 4)) for n in range(9)}, "one sample"),
        ({"z": np.array([1 + 2j])}, "complex"),
        ({"only": 3}, "no array"),
    ],
)
def test_hdf5_that_is_no_table_is_refused(tmp_path: Path, groups: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceFormatError, match=words):
        plan(hdf5(tmp_path / "a.h5", groups))


@pytest.mark.parametrize("attribute", ["encoding-type", "keras_version", "pandas_type"])
def test_hdf5_of_another_meaning_is_refused_by_name(tmp_path: Path, attribute: str) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/x"] = np.arange(3)
        (file["g"] if attribute == "pandas_type" else file).attrs[attribute] = "1"
    with pytest.raises(SourceFormatError, match=r"AnnData|Keras|pandas"):
        plan(tmp_path / "a.h5")


def test_hdf5_never_reads_another_file(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    secret = hdf5(tmp_path / "secret.h5", {"x": np.arange(3)})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y"] = np.arange(2)
        file["x"] = h5py.ExternalLink(str(secret), "/x")
        file["soft"] = h5py.SoftLink("/y")
    assert rows_by_split(plan(tmp_path / "a.h5"))[""] == [{"y": 0}, {"y": 1}]
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("x", (3,), "i8", external=[(str(secret), 0, 24)])
    with pytest.raises(SourceFormatError, match="other files"):
        plan(tmp_path / "b.h5")


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_cut_hdf5_is_an_error(tmp_path: Path, share: float, read: Callable[..., Any]) -> None:
    path = hdf5(tmp_path / "a.h5", {"x": np.arange(30000)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert isinstance(read(Hdf5(), path).error, DataError)


class TestHdf5(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return Hdf5()

    @pytest.fixture
    def files(self, tmp_path: Path, source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        path = hdf5(tmp_path / "a.h5", {"x": np.arange(9000.0).reshape(-1, 3), "s": ["é"] * 3000})
        return [source_file(path)]


class TestColumnsOfNumpyFiles(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return NumpyArrays()

    @pytest.fixture
    def files(self, tmp_path: Path, source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        np.save(tmp_path / "x.npy", np.arange(30000).reshape(-1, 3))
        np.save(tmp_path / "y.npy", np.arange(10000.0))
        return [source_file(tmp_path / "x.npy"), source_file(tmp_path / "y.npy")]


def mat(path: Path, variables: dict[str, Any]) -> Path:
    pytest.importorskip("scipy.io").savemat(path, variables)
    return path


def test_variables_of_matlab_are_columns_by_their_shared_axis(tmp_path: Path) -> None:
    names = np.array(["a", "é", ""], object)
    path = mat(
        tmp_path / "a.mat",
        {"X": np.arange(6.0).reshape(3, 2), "y": [[1], [2], [3]], "names": names, "s": {"z": [7, 8, 9]}},
    )
    assert rows_by_split(plan(path))[""] == [
        {"X": [2.0 * n, 2.0 * n + 1], "y": n + 1, "names": "aé "[n].strip(), "s.z": n + 7} for n in range(3)
    ]


def test_pictures_of_matlab_lie_along_the_last_axis(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = mat(tmp_path / "train.mat", {"X": np.moveaxis(PICTURES, 0, -1), "y": np.arange(6)})
    (rows,) = rows_by_split(plan(path)).values()
    assert (np.stack([np.asarray(image.open(io.BytesIO(row["X"]["bytes"]))) for row in rows]) == PICTURES).all()
    assert [row["y"] for row in rows] == list(range(6))


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 5)])
def test_matlab_variables_without_a_clear_axis_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    variables = {"X": np.zeros(shape)} | ({"y": np.zeros(4)} if len(shape) == 2 else {})
    with pytest.raises(SourceFormatError, match="not clear"):
        plan(mat(tmp_path / "a.mat", variables))


def test_a_sparse_matrix_of_matlab_is_refused(tmp_path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(SourceFormatError, match="sparse"):
        plan(mat(tmp_path / "a.mat", {"X": sparse.eye(5, format="csc")}))


@pytest.mark.parametrize(("name", "head"), [("a.h5", b"\x89HDF\r\n\x1a\n"), ("a.mat", b"MATLAB 5.0 MAT-file")])
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, name: str, head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setitem(sys.modules, "scipy", None)
    (tmp_path / name).write_bytes(head + bytes(600))
    with pytest.raises(MissingDependencyError) as raised:
        plan(tmp_path / name)
    assert "choline-data[arrays]" in raised.value.remedy
