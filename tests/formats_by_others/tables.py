"""Tables that other libraries write."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.formats_by_others.written import PLAIN, REFUSED, ROWS, Row, writer

NO_NULLS: list[Row] = [{**row, "note": row["note"] or "none"} for row in ROWS]


def _frame(rows: list[Row] = ROWS) -> Any:
    import pandas

    return pandas.DataFrame(rows)


def _arrow(rows: list[Row] = ROWS) -> Any:
    import pyarrow

    return pyarrow.Table.from_pylist(rows)


@writer("CSV of pandas", "pandas", cells=True)
def _(folder: Path) -> None:
    _frame().to_csv(folder / "x.csv", index=False)


@writer("CSV with semicolons of pandas", "pandas", cells=True)
def _(folder: Path) -> None:
    _frame().to_csv(folder / "x.csv", index=False, sep=";")


@writer("CSV with a BOM of pandas", "pandas", cells=True)
def _(folder: Path) -> None:
    _frame().to_csv(folder / "x.csv", index=False, encoding="utf-8-sig")


@writer("CSV in UTF-16 of pandas", "pandas", cells=True)
def _(folder: Path) -> None:
    _frame().to_csv(folder / "x.csv", index=False, encoding="utf-16")


@writer("TSV of pandas", "pandas", cells=True)
def _(folder: Path) -> None:
    _frame().to_csv(folder / "x.tsv", index=False, sep="\t")


@writer("CSV in Zstandard of pandas", "pandas", cells=True, needs=("zstandard",))
def _(folder: Path) -> None:
    _frame().to_csv(folder / "x.csv.zst", index=False)


@writer("CSV in ZIP of pandas", "pandas", cells=True)
def _(folder: Path) -> None:
    _frame().to_csv(folder / "x.csv.zip", index=False)


@writer("JSON records of pandas", "pandas")
def _(folder: Path) -> None:
    _frame().to_json(folder / "x.json", orient="records", force_ascii=False)


@writer("JSON Lines of pandas", "pandas")
def _(folder: Path) -> None:
    _frame().to_json(folder / "x.jsonl", orient="records", lines=True)


@writer("JSON of columns of pandas", "pandas")
def _(folder: Path) -> None:
    _frame().to_json(folder / "x.json", orient="columns")


@writer("JSON of an index of pandas", "pandas", part=True)
def _(folder: Path) -> None:
    _frame().to_json(folder / "x.json", orient="index")


@writer("split JSON of pandas", "pandas")
def _(folder: Path) -> None:
    _frame().to_json(folder / "x.json", orient="split")


@writer("JSON with a schema of pandas", "pandas", part=True)
def _(folder: Path) -> None:
    _frame().to_json(folder / "x.json", orient="table", index=False)


@writer("Parquet of pandas", "pandas")
def _(folder: Path) -> None:
    _frame().to_parquet(folder / "x.parquet", index=False)


@writer("Feather of pandas", "pandas")
def _(folder: Path) -> None:
    _frame().to_feather(folder / "x.feather")


@writer("ORC of pandas", "pandas")
def _(folder: Path) -> None:
    _frame().to_orc(folder / "x.orc")


@writer(
    "Stata of pandas",
    "pandas",
    [{**row, "flag": int(row["flag"])} for row in NO_NULLS],
    needs=("pyreadstat",),
)
def _(folder: Path) -> None:
    frame = _frame(NO_NULLS)
    frame["flag"] = frame["flag"].astype("int8")
    frame.to_stata(folder / "x.dta", write_index=False, version=118)


@writer("XML of pandas", "pandas", PLAIN, cells=True)
def _(folder: Path) -> None:
    _frame(PLAIN).to_xml(folder / "x.xml", index=False, parser="etree")


@writer("SQLite of pandas", "pandas", [{**row, "flag": int(row["flag"])} for row in ROWS])
def _(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "x.db")) as base:
        _frame().to_sql("x", base, index=False)


@writer("HTML of pandas", "pandas", [{"text": "Ærøskøbing 0"}], kind="text", part=True)
def _(folder: Path) -> None:
    _frame().to_html(folder / "x.html")


@writer("pickle of pandas", "pandas", ends=REFUSED, says="pickle")
def _(folder: Path) -> None:
    _frame().to_pickle(folder / "x.pkl")


@writer("workbook of pandas", "pandas", needs=("openpyxl", "python_calamine"))
def _(folder: Path) -> None:
    _frame().to_excel(folder / "x.xlsx", index=False)


@writer("workbook of openpyxl", "openpyxl", needs=("python_calamine",))
def _(folder: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(list(ROWS[0]))
    for row in ROWS:
        sheet.append(list(row.values()))
    book.save(folder / "x.xlsx")


@writer("workbook of XlsxWriter", "xlsxwriter", needs=("python_calamine",))
def _(folder: Path) -> None:
    import xlsxwriter

    with xlsxwriter.Workbook(str(folder / "x.xlsx")) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, list(ROWS[0]))
        for number, row in enumerate(ROWS, 1):
            sheet.write_row(number, 0, list(row.values()))


@writer("Parquet of pyarrow", "pyarrow")
def _(folder: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(_arrow(), folder / "x.parquet", row_group_size=5, compression="zstd")


# The values in the names of folders have no type.
@writer("folders of Parquet of pyarrow", "pyarrow", [{**row, "flag": str(int(row["flag"]))} for row in ROWS])
def _(folder: Path) -> None:
    import pyarrow.dataset

    rows = [{**row, "flag": int(row["flag"])} for row in ROWS]
    pyarrow.dataset.write_dataset(
        _arrow(rows), folder, format="parquet", partitioning=["flag"], partitioning_flavor="hive"
    )


@writer("Feather of pyarrow", "pyarrow")
def _(folder: Path) -> None:
    from pyarrow import feather

    feather.write_feather(_arrow(), str(folder / "x.feather"), compression="lz4")


@writer("Arrow stream of pyarrow", "pyarrow")
def _(folder: Path) -> None:
    import pyarrow

    with pyarrow.ipc.new_stream(str(folder / "x.arrows"), _arrow().schema) as out:
        out.write_table(_arrow(), max_chunksize=5)


@writer("CSV of pyarrow", "pyarrow", cells=True)
def _(folder: Path) -> None:
    import pyarrow.csv

    pyarrow.csv.write_csv(_arrow(), str(folder / "x.csv"))


@writer("ORC of pyarrow", "pyarrow")
def _(folder: Path) -> None:
    import pyarrow.orc

    pyarrow.orc.write_table(_arrow(), str(folder / "x.orc"), compression="zlib")


SCHEMA = {
    "type": "record",
    "name": "row",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": "string"},
        {"name": "price", "type": "double"},
        {"name": "flag", "type": "boolean"},
        {"name": "note", "type": ["null", "string"]},
    ],
}


@writer("Avro of fastavro", "fastavro")
def _(folder: Path) -> None:
    import fastavro

    with (folder / "x.avro").open("wb") as out:
        fastavro.writer(out, SCHEMA, ROWS, codec="deflate")


@writer("database of sqlite3", "sqlite3", [{**row, "flag": int(row["flag"])} for row in ROWS])
def _(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "x.sqlite")) as base:
        base.execute("create table x (id integer, name text, price real, flag boolean, note text)")
        base.executemany("insert into x values (:id, :name, :price, :flag, :note)", ROWS)
        base.commit()


def _duck(command: str) -> None:
    import duckdb

    table = _arrow()
    with duckdb.connect() as base:
        base.register("source", table)
        base.execute(command)


@writer("database of DuckDB", "duckdb")
def _(folder: Path) -> None:
    _duck(f"attach '{folder / 'x.duckdb'}' as other; create table other.x as select * from source")


@writer("Parquet of DuckDB", "duckdb")
def _(folder: Path) -> None:
    _duck(f"copy source to '{folder / 'x.parquet'}' (format parquet)")


@writer("CSV of DuckDB", "duckdb", cells=True)
def _(folder: Path) -> None:
    _duck(f"copy source to '{folder / 'x.csv'}' (header)")


@writer("JSON Lines of DuckDB", "duckdb")
def _(folder: Path) -> None:
    _duck(f"copy source to '{folder / 'x.json'}' (format json)")


def _csv(path: Path, **options: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, list(ROWS[0]), **options)
        table.writeheader()
        table.writerows(ROWS)


@writer("CSV of csv", "csv", cells=True)
def _(folder: Path) -> None:
    _csv(folder / "x.csv")


@writer("quoted CSV of csv", "csv", cells=True)
def _(folder: Path) -> None:
    _csv(folder / "x.csv", dialect="unix")


@writer("TSV of csv", "csv", cells=True)
def _(folder: Path) -> None:
    _csv(folder / "x.tsv", dialect="excel-tab")


@writer("CSV with bars of csv", "csv", cells=True)
def _(folder: Path) -> None:
    _csv(folder / "x.psv", delimiter="|")


@writer("Polars Parquet", "polars")
def _(folder: Path) -> None:
    import polars

    polars.DataFrame(ROWS).write_parquet(folder / "x.parquet")


@writer("Polars IPC", "polars")
def _(folder: Path) -> None:
    import polars

    polars.DataFrame(ROWS).write_ipc(folder / "x.arrow")


@writer("Polars JSON Lines", "polars")
def _(folder: Path) -> None:
    import polars

    polars.DataFrame(ROWS).write_ndjson(folder / "x.ndjson")


@writer("Polars Avro", "polars", needs=("fastavro",))
def _(folder: Path) -> None:
    import polars

    polars.DataFrame(ROWS).write_avro(folder / "x.avro")


@writer("ARFF of liac-arff", "arff", PLAIN, kind="tabular")
def _(folder: Path) -> None:
    import arff

    attributes = [("id", "INTEGER"), ("name", "STRING"), ("price", "REAL")]
    content = {"relation": "x", "attributes": attributes, "data": [list(row.values()) for row in PLAIN]}
    (folder / "x.arff").write_text(arff.dumps(content), encoding="utf-8")


@writer("GeoJSON of json", "json", [{"type": "Feature", "properties": row} for row in ROWS], part=True)
def _(folder: Path) -> None:
    features = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [n, 1.5]}, "properties": row}
        for n, row in enumerate(ROWS)
    ]
    (folder / "x.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
