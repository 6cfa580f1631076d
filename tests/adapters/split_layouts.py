"""Layouts of small files, to compare the splits that we find with those of the `datasets` library.

The name of a file decides its format. Its rows are named after it, so that a row says which file it came from.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Splits = dict[str, set[str]]


@dataclass(frozen=True)
class Layout:
    """Files of a folder. If `ours` is given, we differ from `datasets` on purpose, and `why` says for which reason."""

    files: Sequence[str]
    readme: str = ""
    config: str = ""
    ours: Mapping[str, set[str]] = field(default_factory=dict)
    why: str = ""

    def write(self, folder: Path) -> Path:
        """Writes the files."""
        for name in self.files:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(name))
        if self.readme:
            (folder / "README.md").write_text(f"---\n{self.readme}\n---\n")
        return folder


def content(name: str) -> bytes:
    """A small file whose three rows have the file's name in the column `source`."""
    rows = [{"source": name, "number": number} for number in range(3)]
    kind = name.rsplit(".", 1)[-1]
    if kind == "jsonl":
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    if kind == "json":
        return json.dumps(rows).encode()
    if kind in ("csv", "tsv"):
        mark = "," if kind == "csv" else "\t"
        return "".join(
            f"{mark.join(map(str, row))}\n" for row in [("source", "number"), *(r.values() for r in rows)]
        ).encode()
    if kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        return sink.getvalue()
    if kind == "png":
        sink = io.BytesIO()
        Image.new("L", (2, 2), sum(name.encode()) % 256).save(sink, "PNG")
        return sink.getvalue()
    if kind == "tar":
        return tar(
            {
                f"{number}.{suffix}": data
                for number in range(2)
                for suffix, data in (("txt", name.encode()), ("cls", b"1"))
            }
        )
    raise AssertionError(name)


def tar(members: Mapping[str, bytes]) -> bytes:
    """A tar of these members."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def zipped(names: Sequence[str]) -> bytes:
    """A ZIP of these files."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name in names:
            archive.writestr(name, content(name))
    return sink.getvalue()


def configs(*entries: str) -> str:
    """The front matter of a README with these configs."""
    return "configs:\n" + "\n".join(entries)


MAIN = (
    "- config_name: main\n  data_files:\n"
    "  - split: train\n    path: main/train.jsonl\n  - split: test\n    path: main/test.jsonl"
)
OTHER = "- config_name: other\n  data_files: other/*.jsonl"
TWO = ["main/train.jsonl", "main/test.jsonl", "other/a.jsonl", "other/b.jsonl"]
ALL = {"train", "validation", "test"}

SAME: dict[str, Layout] = {
    "jsonl by name": Layout(["train.jsonl", "test.jsonl"]),
    "three splits": Layout(["train.jsonl", "validation.jsonl", "test.jsonl"]),
    "valid": Layout(["train.csv", "valid.csv"]),
    "val": Layout(["train.csv", "val.csv", "test.csv"]),
    "dev.tsv": Layout(["train.tsv", "dev.tsv", "test.tsv"]),
    "training and testing": Layout(["training.jsonl", "testing.jsonl"]),
    "eval": Layout(["train.jsonl", "eval.jsonl"]),
    "evaluation": Layout(["train.jsonl", "evaluation.jsonl"]),
    "json documents": Layout(["train.json", "dev.json"]),
    "parquet": Layout(["train.parquet", "test.parquet"]),
    "in data/": Layout(["data/train.jsonl", "data/test.jsonl"]),
    "a word at the end": Layout(["squad-train.jsonl", "squad-dev.jsonl"]),
    "a word at the beginning": Layout(["train_squad.jsonl", "dev_squad.jsonl"]),
    "a word within": Layout(["en.train.v1.jsonl", "en.test.v1.jsonl"]),
    "blanks": Layout(["my train.csv", "my test.csv"]),
    "numbered": Layout(["train_0.csv", "train_1.csv", "test_0.csv"]),
    "digits without a separator": Layout(["train1.csv", "train2.csv", "test1.csv"]),
    "test_matched": Layout(["train.jsonl", "test_matched.jsonl", "test_mismatched.jsonl"]),
    "validation_matched": Layout(["train.jsonl", "validation_matched.jsonl"]),
    "train_extra": Layout(["train.jsonl", "train_extra.jsonl", "test.jsonl"]),
    "a file without a word": Layout(["train.jsonl", "test.jsonl", "extra.jsonl"]),
    "no word at all": Layout(["a.jsonl", "b.jsonl"]),
    "words that only contain one": Layout(["trainer.jsonl", "tested.jsonl", "contest.jsonl"]),
    "one file": Layout(["rows.csv"]),
    "a lone train": Layout(["train.csv"]),
    "a lone test": Layout(["test.csv"]),
    "shards in data/": Layout(
        ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"]
    ),
    "shards of own splits": Layout(["data/train-00000-of-00001.parquet", "data/random-00000-of-00001.parquet"]),
    "shards of test_matched": Layout(["data/train-00000-of-00001.parquet", "data/test_matched-00000-of-00001.parquet"]),
    "shards with a hash": Layout(["data/train-00000-of-00001-a1b2c3.parquet", "data/test-00000-of-00001-d4e5f6.parquet"]),
    "shards elsewhere": Layout(["en/train-00000-of-00001.parquet", "en/test-00000-of-00001.parquet"]),
    "folders": Layout(["train/a.jsonl", "train/b.jsonl", "test/a.jsonl"]),
    "folders in data/": Layout(["data/train/0.csv", "data/dev/0.csv", "data/test/0.csv"]),
    "folders below languages": Layout(["en/train/a.jsonl", "en/test/a.jsonl", "de/train/a.jsonl", "de/test/a.jsonl"]),
    "files below languages": Layout(["en/train.jsonl", "en/test.jsonl", "de/train.jsonl", "de/test.jsonl"]),
    "folders with a year": Layout(["train2017/a.jsonl", "val2017/a.jsonl"]),
    "folders with more words": Layout(["my-train/a.jsonl", "my-test/a.jsonl"]),
    "folder before file": Layout(["train/test.jsonl", "train/a.jsonl", "test/train.jsonl"]),
    "folders and a README": Layout(["train/a.jsonl", "test/a.jsonl"], readme="license: mit"),
    "images": Layout(["train/cat/1.png", "train/dog/2.png", "test/cat/3.png"]),
    "images without classes": Layout(["train/1.png", "validation/2.png"]),
    "webdataset": Layout(["pix-train-000000.tar", "pix-train-000001.tar", "pix-val-000000.tar"]),
    "webdataset in folders": Layout(["train/000000.tar", "test/000000.tar"]),
    "the only config": Layout(TWO[:2], readme=configs(MAIN)),
    "the default config": Layout(TWO, readme=configs(MAIN, OTHER + "\n  default: true")),
    "a config of a name": Layout(TWO, readme=configs(MAIN, OTHER), config="main"),
    "a config with the name default": Layout(TWO, readme=configs(MAIN, OTHER.replace("other\n", "default\n"))),
    "a config with a pattern": Layout(TWO, readme=configs(MAIN, OTHER), config="other"),
    "a config with data_dir": Layout(
        ["en/train.csv", "en/test.csv", "de/train.csv"],
        readme=configs("- config_name: en\n  data_dir: en", "- config_name: de\n  data_dir: de"),
        config="en",
    ),
    "a config with own splits": Layout(
        ["a.csv", "b.csv"],
        readme=configs("- config_name: x\n  data_files:\n  - split: hard\n    path: a.csv\n  - split: easy\n    path: b.csv"),
    ),
}  # fmt: skip

DIFFERENT: dict[str, Layout] = {
    "upper case": Layout(
        ["Train.csv", "TEST.csv"],
        ours={"train": {"Train.csv"}, "test": {"TEST.csv"}},
        why="`datasets` compares case and trains on both",
    ),
    "a held-out file": Layout(
        ["train.jsonl", "heldout.jsonl"],
        ours={"train": {"train.jsonl"}, "heldout": {"heldout.jsonl"}},
        why="`datasets` leaves it out",
    ),
    "a held-out file beside others": Layout(
        ["data.jsonl", "held_out.jsonl"],
        ours={"train": {"data.jsonl"}, "heldout": {"held_out.jsonl"}},
        why="`datasets` trains on it",
    ),
    "no file for training": Layout(
        ["data.csv", "test.csv"],
        ours={"train": {"data.csv"}, "test": {"test.csv"}},
        why="`datasets` reads test.csv alone",
    ),
    "a folder and a file": Layout(
        ["train/a.csv", "test.csv"],
        ours={"train": {"train/a.csv"}, "test": {"test.csv"}},
        why="`datasets` leaves test.csv out, because one folder has a word",
    ),
    "a shared folder with a word": Layout(
        ["training/train.csv", "training/test.csv"],
        ours={"train": {"training/train.csv"}, "test": {"training/test.csv"}},
        why="`datasets` trains on both, because the folder that they share has a word",
    ),
    "a Hive partition": Layout(
        ["split=train/a.csv", "split=test/a.csv"],
        ours={"train": {"split=train/a.csv"}, "test": {"split=test/a.csv"}},
        why="`datasets` does not know '=' and trains on both",
    ),
    "words without a separator": Layout(
        ["trainSet.csv", "testSet.csv", "devset.csv"],
        ours={"train": {"trainSet.csv"}, "test": {"testSet.csv"}, "validation": {"devset.csv"}},
        why="`datasets` trains on all",
    ),
    "a class that contains a word": Layout(
        ["train/test tube/1.png", "train/cat/2.png", "test/cat/3.png"],
        ours={"train": {"train/test tube/1.png", "train/cat/2.png"}, "test": {"test/cat/3.png"}},
        why="`datasets` puts a training picture into the test split, too",
    ),
    "pictures with free names": Layout(
        ["a test of light.png", "b.png", "c.png"],
        ours={"": {"a test of light.png", "b.png", "c.png"}},
        why="`datasets` reads one picture and leaves the others out",
    ),
}
