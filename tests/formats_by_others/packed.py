"""Datasets that other libraries of machine learning write."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from tests.formats_by_others.written import ROWS, Row, writer

SAMPLES: list[Row] = [{"txt": f"A picture of the number {n}.", "n": n, "bytes": bytes([n]) * 9} for n in range(6)]
PAIRS: list[Row] = [{"text": f"It was the {n}th night at sea.", "label": n % 2} for n in range(10)]


@writer(
    "shards of webdataset",
    "webdataset",
    [{"text": row["txt"], "n": row["n"]} for row in SAMPLES],
    kind="text",
    part=True,
)
def _(folder: Path) -> None:
    import webdataset

    with webdataset.ShardWriter(str(folder / "x-%04d.tar"), maxcount=4, verbose=0) as out:
        for number, row in enumerate(SAMPLES):
            out.write({"__key__": f"{number:04d}", "txt": row["txt"], "json": {"n": row["n"]}})


def _dataset(rows: list[Row] = ROWS) -> Any:
    import datasets

    datasets.disable_progress_bars()
    return datasets.Dataset.from_list(rows)


@writer("save_to_disk of datasets", "datasets")
def _(folder: Path) -> None:
    _dataset().save_to_disk(folder / "x")


@writer("save_to_disk of datasets with splits", "datasets", PAIRS, part=True)
def _(folder: Path) -> None:
    import datasets

    halves = {"train": _dataset(PAIRS[:6]), "test": _dataset(PAIRS[6:])}
    datasets.DatasetDict(halves).save_to_disk(folder / "x")


@writer("Parquet of datasets", "datasets")
def _(folder: Path) -> None:
    _dataset().to_parquet(str(folder / "x.parquet"))


@writer("JSON Lines of datasets", "datasets")
def _(folder: Path) -> None:
    _dataset().to_json(str(folder / "x.jsonl"))


@writer("CSV of datasets", "datasets", cells=True)
def _(folder: Path) -> None:
    _dataset().to_csv(str(folder / "x.csv"), index=False)


@writer(
    "class labels of datasets", "datasets", [{**row, "label": ("no", "yes")[row["label"]]} for row in PAIRS], part=True
)
def _(folder: Path) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(PAIRS, features=features).save_to_disk(folder / "x")


@writer(
    "TFRecord of Beam", "apache_beam", [{"record": f"Record {n} of the sea.".encode()} for n in range(5)], part=True
)
def _(folder: Path) -> None:
    from apache_beam.io.tfrecordio import _TFRecordUtil

    with (folder / "x.tfrecord").open("wb") as out:
        for number in range(5):
            _TFRecordUtil.write_record(out, f"Record {number} of the sea.".encode())


@writer(
    "WARC of warcio",
    "warcio",
    [{"url": f"http://x.org/{n}", "text": f"<p>The sea {n}</p>"} for n in range(4)],
    kind="text",
    part=True,
)
def _(folder: Path) -> None:
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    with (folder / "x.warc.gz").open("wb") as out:
        file = WARCWriter(out, gzip=True)
        for number in range(4):
            headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.0")
            body = io.BytesIO(f"<p>The sea {number}</p>".encode())
            file.write_record(
                file.create_warc_record(f"http://x.org/{number}", "response", payload=body, http_headers=headers)
            )


@writer("chats of json", "json", [{"role": "user"}], kind="chat", part=True)
def _(folder: Path) -> None:
    turns = [{"role": "user", "content": "What is the sea?"}, {"role": "assistant", "content": "It is water."}]
    (folder / "x.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
