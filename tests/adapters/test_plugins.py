"""Adapters of installed packages: they compete by score, and a broken one is named and left out."""

from __future__ import annotations

import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from choline_data.adapters.base import Source, SourceFile
from choline_data.adapters.plugins import AdapterWarning
from choline_data.adapters.registry import claims, formats
from choline_data.catalog.planning import Wishes, guarded_chunks, plan_source
from choline_data.errors import SourceDamagedError, SourceFormatError

ADAPTER = """
    from dataclasses import dataclass
    from pathlib import Path
    import pyarrow as pa
    from choline_data.adapters.base import FormatClaim, Shard, chunk_of

    @dataclass(frozen=True)
    class Whole:
        def shards(self, files):
            return [Shard(f.path, f.name, size=f.size) for f in files]

        def read(self, shard, *, start=0):
            {read}

    ADAPTER = Whole

    def detect(source):
        files = tuple(f for f in source.files if f.name.endswith({suffix!r}))
        return [FormatClaim(Whole(), files, {score}, "whole files", kind="text")] if files else []
    """
ONE_ROW = 'yield chunk_of(pa.RecordBatch.from_pydict({"text": [Path(shard.path).read_text()]}).slice(start), start)'
CUES = "1\n00:00:01,000 --> 00:00:02,000\nGood morning.\n\n2\n00:00:03,000 --> 00:00:04,000\nGood night.\n"
Install = Callable[[str, str], None]


def adapter(suffix: str, score: float, read: str = ONE_ROW) -> str:
    return textwrap.dedent(ADAPTER).format(suffix=suffix, score=score, read=read)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package with one module and its entry point, as pip lays it out."""
    site = tmp_path / "site"
    names: list[str] = []

    def one(name: str, code: str, value: str = "") -> None:
        site.mkdir(exist_ok=True)
        (site / f"{name}_adapter.py").write_text(textwrap.dedent(code))
        info = site / f"{name}_package-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-package\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[choline_data.adapters]\n{name} = {value or name + '_adapter'}\n")
        names.append(f"{name}_adapter")

    monkeypatch.syspath_prepend(str(site))
    yield one
    for name in names:
        sys.modules.pop(name, None)


def source(folder: Path, **texts: str) -> Source:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("_", ".")).write_text(text)
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    files = tuple(SourceFile(str(p), p.relative_to(folder).as_posix(), p.stat().st_size) for p in paths)
    return Source(str(folder), files, folder=True)


def readers(taken: list, name: str) -> list[str]:
    return [type(c.adapter).__name__ for c in taken if name in {f.name for f in c.files}]


def test_the_higher_score_reads_a_file_of_a_known_format(install: Install, tmp_path: Path) -> None:
    install("cues", adapter(".srt", 1.0))
    taken, rest = claims(source(tmp_path / "data", a_srt=CUES, b_jsonl='{"text": "a"}\n'))
    assert readers(taken, "a.srt") == ["Whole"]
    assert readers(taken, "b.jsonl") == ["JsonLines"]
    assert not rest.files


def test_our_format_reads_at_an_equal_or_higher_score(install: Install, tmp_path: Path) -> None:
    install("cues", adapter(".srt", 0.95))
    taken, _ = claims(source(tmp_path / "data", a_srt=CUES))
    assert readers(taken, "a.srt") == ["Subtitles"]


def test_a_low_score_reads_what_no_format_of_ours_reads(install: Install, tmp_path: Path) -> None:
    install("odd", adapter(".oddity", 0.1))
    taken, _ = claims(source(tmp_path / "data", a_oddity="\x01\x02", b_jsonl='{"text": "a"}\n'))
    assert readers(taken, "a.oddity") == ["Whole"]


def test_a_plugin_reads_a_file_that_a_layout_of_ours_claims_with_a_lower_score(
    install: Install, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    (folder / "lib").mkdir(parents=True)
    for number in range(6):
        (folder / "lib" / f"part_{number}.py").write_text(
            f"import os\n\n\ndef part():\n    return os.path * {number}\n"
        )
    assert readers(claims(source(folder))[0], "lib/part_0.py") == ["SourceTree"]
    install("programs", adapter(".py", 1.0))
    assert readers(claims(source(folder))[0], "lib/part_0.py") == ["Whole"]


def test_a_plugin_reads_members_of_an_archive(install: Install, tmp_path: Path) -> None:
    import zipfile

    install("cues", adapter(".srt", 1.0))
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / "a.zip", "w") as archive:
        archive.writestr("a.srt", CUES)
    taken, _ = claims(source(tmp_path / "data"))
    assert [type(c.adapter.inner).__name__ for c in taken] == ["Whole"]


def test_a_file_that_our_format_cannot_open_is_left_to_a_plugin(install: Install, tmp_path: Path) -> None:
    install("empty", adapter(".zip", 0.1))
    import zipfile

    (tmp_path / "data").mkdir()
    zipfile.ZipFile(tmp_path / "data" / "a.zip", "w").close()
    taken, _ = claims(source(tmp_path / "data"))
    assert readers(taken, "a.zip") == ["Whole"]


BROKEN = {
    "import": ("import no_such_library", "no_such_library"),
    "syntax": ("def detect(:", "SyntaxError"),
    "exit": ("raise SystemExit(3)", "SystemExit"),
    "nothing": ("x = 1", "detect"),
    "raises": ("def detect(source): return 1 / 0", "ZeroDivisionError"),
    "none": ("def detect(source): return None", "NoneType"),
    "strings": ("def detect(source): return ['a']", "str where a FormatClaim belongs"),
    "score": (adapter(".jsonl", 7), "score 7"),
    "nan": (adapter(".jsonl", 1).replace("files, 1,", "files, float('nan'),"), "score nan"),
    "class": (adapter(".jsonl", 1).replace("FormatClaim(Whole(),", "FormatClaim(Whole,"), "no instance"),
    "other": (adapter(".jsonl", 1).replace("Whole(), files,", "Whole(), ('x',),"), "not files of the source"),
    "twice": (adapter(".jsonl", 1).replace('kind="text")]', 'kind="text")] * 2'), "two claims on one file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_named_once_and_breaks_nothing(install: Install, tmp_path: Path, name: str) -> None:
    code, why = BROKEN[name]
    install(name, code)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        taken, _ = claims(source(tmp_path / "data", a_jsonl='{"text": "a"}\n'))
        warnings.simplefilter("default")  # which forgets what was shown
        claims(source(tmp_path / "data"))
    assert readers(taken, "a.jsonl") == ["JsonLines"]
    (warned,) = [w for w in seen if w.category is AdapterWarning]
    assert f"{name}-package" in str(warned.message) and why in str(warned.message)


def test_a_name_that_we_have_is_named_and_left_out(install: Install, tmp_path: Path) -> None:
    install("csv", adapter(".csv", 1.0))
    with pytest.warns(AdapterWarning, match=r"'csv' of the package csv-package is left out: choline-data has"):
        assert [f.module for f in formats() if f.name == "csv"] == ["choline_data.adapters.csv_table"]


def test_a_format_that_is_asked_for_by_name_says_why_it_cannot_be_imported(install: Install, tmp_path: Path) -> None:
    install("gone", "import no_such_library")
    with pytest.raises(SourceFormatError, match="'gone' of the package gone-package cannot be imported"):
        claims(source(tmp_path / "data", a_jsonl="{}\n"), only="gone")


@pytest.mark.parametrize(
    ("read", "error", "why"),
    [
        ("yield {'text': 'a'}", SourceFormatError, "yields dict where a SourceChunk"),
        ("import numpy; from choline_data.adapters.base import SourceChunk; "
         "yield SourceChunk(pa.RecordBatch.from_pydict({'text': ['a', 'b']}), numpy.arange(1))",
         SourceFormatError, "a chunk of 2 rows with 1 row numbers"),
        ("yield 1 / 0", SourceDamagedError, r"by odd_adapter.Whole \(ZeroDivisionError"),
    ],
)  # fmt: skip
def test_what_a_plugin_yields_is_checked(
    install: Install, tmp_path: Path, read: str, error: type[Exception], why: str
) -> None:
    install("odd", adapter(".oddity", 1.0, read))
    taken, _ = claims(source(tmp_path / "data", a_oddity="a"))
    (shard,) = taken[0].adapter.shards(taken[0].files)
    with pytest.raises(error, match=why):
        list(guarded_chunks(taken[0].adapter, shard))


def test_an_add_publishes_what_a_plugin_reads(install: Install, tmp_path: Path) -> None:
    install("cues", adapter(".srt", 1.0))
    plan = plan_source(source(tmp_path / "data", a_srt=CUES), "cues", Wishes())
    assert [preview.sample["text"] for preview in plan.previews] == [CUES]
