"""Data sets of SPSS, Stata and SAS that pyreadstat wrote, and damaged ones."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.errors import DataError

pytest.importorskip("pandas")
pyreadstat = pytest.importorskip("pyreadstat")

from choline_data.adapters.tables.statistics_files import StatisticsFile  # noqa: E402

SEX = {1: "male", 2: "female"}
AGE = {-9: "refused"}


def frame(count: int = 3) -> Any:
    import pandas as pd

    days = [datetime.datetime(2024, 1, 5), datetime.datetime(1950, 2, 6), None]
    return pd.DataFrame(
        {
            "x": [0.5, None, 2.5] * (count // 3),
            "s": ["a", "", "b"] * (count // 3),
            "day": pd.to_datetime(days * (count // 3)),
            "sex": [1.0, 2.0, None] * (count // 3),
            "age": [30.0, -9.0, 41.0] * (count // 3),
        }
    )


def write(path: Path, count: int = 3) -> Path:
    labels = {"variable_value_labels": {"sex": SEX, "age": AGE}}
    kind = path.suffix[1:]
    if kind == "dta":
        pyreadstat.write_dta(frame(count), str(path), **labels)
    elif kind in ("sav", "zsav"):
        pyreadstat.write_sav(frame(count), str(path), compress=kind == "zsav", **labels)
    elif kind == "por":
        pyreadstat.write_por(frame(count), str(path))
    else:
        pyreadstat.write_xport(frame(count), str(path), file_format_version=5 if path.stem == "v5" else 8)
    return path


@pytest.mark.parametrize("name", ["a.sav", "a.zsav", "a.dta", "a.por", "v5.xpt", "v8.xpt"])
def test_a_data_set_comes_back(tmp_path: Path, name: str, read: Callable[..., Any]) -> None:
    found = read(StatisticsFile(), write(tmp_path / name))
    assert found.error is None
    rows = [{k.lower(): v for k, v in row.items()} for c in found.chunks for row in c.batch.to_pylist()]
    coded = name.endswith(("por", "xpt"))  # these formats hold no labels
    assert [row["x"] for row in rows] == [0.5, None, 2.5]
    assert [row["s"] for row in rows] == ["a", "", "b"]
    assert [row["day"] for row in rows] == [datetime.datetime(2024, 1, 5), datetime.datetime(1950, 2, 6), None]
    assert [row["sex"] for row in rows] == ([1.0, 2.0, None] if coded else ["male", "female", None])
    assert [row["age"] for row in rows] == ([30.0, -9.0, 41.0] if coded else ["30.0", '"refused"', "41.0"])


@pytest.mark.parametrize("kind", ["sav", "dta", "xpt"])
def test_a_long_data_set_comes_back_in_pieces(
    tmp_path: Path, kind: str, read: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("choline_data.adapters.tables.statistics_files.PIECE_BYTES", 20_000)
    found = read(StatisticsFile(), write(tmp_path / f"a.{kind}", 3000))
    assert found.error is None
    assert found.count == 3000
    assert len(found.chunks) > 3
    assert [row.get("s") for row in found.rows] == ["a", "", "b"] * 1000


@pytest.mark.parametrize("name", ["a.sav", "a.zsav", "a.dta"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_data_set_is_an_error(tmp_path: Path, name: str, share: float, read: Callable[..., Any]) -> None:
    path = write(tmp_path / name, 3000)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert isinstance(read(StatisticsFile(), path).error, DataError)


class TestStatisticsFile(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return StatisticsFile()

    @pytest.fixture
    def files(self, tmp_path: Path, source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        return [source_file(write(tmp_path / name, 300)) for name in ("a.sav", "b.dta")]
