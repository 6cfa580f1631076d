"""Writes docs/formats.md: what can be read, and what became of every public dataset of the shared test data.

    python docs/generate_formats.py SHARED_DATA

`tests/test_every_dataset.py` makes the page again and compares.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from choline_data.adapters.reading.known.format_table import known_formats
from choline_data.adapters.registered_format import RegisteredFormat
from choline_data.adapters.registry import FORMATS
from choline_data.catalog.self_check.independent import COUNTERS, READERS
from choline_data.cli import main as command_line

ROOT = Path(__file__).resolve().parents[1]
PASS_ON = ("lfs", "dvc", "hub", "archive")  # formats whose files other formats read

# What `add` asks about some folders, because they hold several datasets, and the options that answer.
ANSWERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "mt_bench",
            "preference",
            "oasst_sample",
            "palmerpenguins",
            "sklearn_tables",
            "vega",
            "parquet_testing",
            "coco_results",
            "corpora_cc0",
        ),
        ("--config-by", "file"),
    ),
    "arrow_files": ("--include", "*.arrow", "--include", "*.feather"),
    "nasty": ("--include", "*"),
}


@dataclass(frozen=True)
class Outcome:
    """The result of one `choline-data add PATH --yes --json`."""

    code: int
    told: dict[str, Any] = field(default_factory=dict)
    error: dict[str, str] = field(default_factory=dict)
    stderr: str = ""


def added(path: Path, home: Path, *more: str) -> Outcome:
    """Runs the real command line in this process, with no option but the location of the home."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    before = sys.argv
    sys.argv = ["choline-data", "add", str(path), "--yes", "--json", "--home", str(home), *more]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            command_line()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
    if code:
        return Outcome(
            code, error=orjson.loads(err.getvalue().strip().splitlines()[-1])["error"], stderr=err.getvalue()
        )
    return Outcome(code, orjson.loads(out.getvalue()), stderr=err.getvalue())


def outcomes(data: Path, home: Path) -> dict[str, Outcome]:
    """Adds every dataset of the manifest to one home. Returns the result of each `add`."""
    names = [entry["name"] for entry in json.loads((data / "manifest.json").read_text())["datasets"]]
    return {name: added(data / name, home, *ANSWERS.get(name, ())) for name in names}


_NOT_KEPT = (
    "## What is not kept",
    "",
    "- JSON and JSON Lines: a key that is missing and a key with `null` are the same, a null in the column.",
    "- If a key of a JSON object is duplicate, the last value counts.",
    '- CSV: an empty field without quotes is a null, and `""` is an empty text. In a column of numbers, NA, null and similar words',
    "  are nulls.",
    "- JSON Lines of arrays: a first line of names is the header. Without one, the columns are `column_0`, `column_1` …",
    "- Workbooks: empty rows, formats of cells, and formulas. A formula gives the value that the workbook stores.",
)


def _refused() -> list[str]:
    """Returns the formats that are known but not read. The error for such a file names its format, and a tool that
    converts it.
    """
    read = {extension for known in known_formats() if known.reader for extension in known.extensions}
    names = sorted({k.name for k in known_formats() if not k.reader and not read.issuperset(k.extensions or {""})})
    return [
        "## What is refused by name",
        "",
        "A text file is read as documents only if its content and its name look like prose, source code or markup. The",
        "following formats are recognised by their first bytes, their first lines or their extension. The error names the",
        "format and a tool that converts it. `--as text` reads any text file as plain text.",
        "",
        *(
            f"- {'; '.join(same)}."
            for _, same in itertools.groupby(sorted(names, key=str.lower), lambda n: n[0].upper())
        ),
    ]


def _checked(fmt: RegisteredFormat) -> str:
    """Returns what the self-check compares for this format, as text for the table."""
    if fmt.name in PASS_ON:
        return "as its files"
    adapter = getattr(sys.modules.get(fmt.module) or fmt.load(), "ADAPTER", None)
    name = getattr(adapter, "__name__", "")
    return "rows" if name in READERS else "count" if name in COUNTERS else ""


def _by_others() -> list[str]:
    """Returns a list of the files that other libraries write, as `tests/formats_by_others` states and tests them."""
    sys.path.insert(0, str(ROOT))
    try:
        from tests.formats_by_others.written import ENDS, all_writers

        writers = all_writers().values()
    finally:
        sys.path.remove(str(ROOT))
    counts = {end: sum(each.ends == end for each in writers) for end in ENDS}
    shares = ", ".join(f"{n} {end} ({n / len(writers):.0%})" for end, n in counts.items())
    lines = [
        "## Files that other libraries write",
        "",
        f"A test adds {len(writers)} kinds of files that other libraries wrote, and compares the samples with the rows that were",
        f"written: {shares}. None is read wrong. *Asked* means that `add` asks before it reads, and *refused* that",
        "the error names the format.",
        "",
        "| library | right | asked | refused |",
        "| --- | --- | --- | --- |",
    ]
    for library in sorted({each.library for each in writers}, key=str.lower):
        cells = [[each.name for each in writers if each.library == library and each.ends == end] for end in ENDS]
        lines.append(f"| {library} | " + " | ".join("; ".join(names) for names in cells) + " |")
    return lines


def page(data: Path, found: dict[str, Outcome]) -> str:
    """Returns the text of docs/formats.md."""
    about = {e["name"]: e for e in json.loads((data / "manifest.json").read_text())["datasets"]}
    lines = [
        "# Formats",
        "",
        "`docs/generate_formats.py` makes this page from a real run. A test fails if the page is out of date.",
        "",
        "## What is read",
        "",
        "`choline-data add` first tries the layouts. A layout is the format of a whole folder or of a descriptor. Every other",
        "file goes to the format that recognises its first bytes or its name. Each format can be read from a path, a glob, a",
        "folder, an archive member or a URL, compressed or not. `--format NAME` uses only this format. A format with an extra",
        "may need `pip install choline-data[EXTRA]`. If it does, the error says so.",
        "",
        "The last column says what [the self-check](architecture.md#the-self-check-of-add) compares with an independent",
        "reader: some *rows*, or only their *count*. A format without an entry is not checked, because there is no other",
        "reader for it that is cheap. Sources on other machines are checked only if they are downloaded first.",
        "",
        "| format | reads | extra | checked |",
        "| --- | --- | --- | --- |",
    ]
    for fmt in FORMATS:
        first = (sys.modules.get(fmt.module) or fmt.load()).__doc__ or ""
        what = " ".join(first.strip().split("\n\n")[0].split())
        lines.append(
            f"| {fmt.name}{' (layout)' if fmt.layout else ''} | {_cell(what)} | {fmt.extra} | {_checked(fmt)} |"
        )
    lines += ["", *_NOT_KEPT, "", *_refused(), "", *_by_others()]
    lines += [
        "",
        "## Datasets",
        "",
        "Each was added by `choline-data add PATH --yes --json`, with no other flags than those that are listed below.",
        "",
        "| dataset | published as | adapter | kind | samples | rejected |",
        "| --- | --- | --- | --- | ---: | ---: |",
    ]
    for name, end in found.items():
        published = _cell(about[name]["format"])
        if end.code:
            lines.append(f"| {name} | {published} | - | `{end.error['reason']}` | 0 | 0 |")
            continue
        adapters = ", ".join(sorted({part["adapter"] for part in end.told["parts"]}))
        kinds = ", ".join(sorted({part["kind"] for part in end.told["parts"]}))
        lines.append(
            f"| {name} | {published} | {adapters} | {kinds} | {end.told['rows']:,} | {end.told['rejected']:,} |"
        )
    lines += ["", "If a folder holds more than one dataset, `add` asks. These options answer:", ""]
    lines += [f"- {name}: `{' '.join(ANSWERS[name])}`" for name in found if name in ANSWERS]
    lines += ["", "For these datasets, `add` ends in an error:", ""]
    lines += [f"- {name}: {end.error['message']} {end.error['remedy']}" for name, end in found.items() if end.code]
    return "\n".join(lines).replace(f"{data}/", "") + "\n"


def _cell(text: str) -> str:
    return text.replace("\\|", "|").replace("|", "\\|")


def run(data: Path) -> str:
    """Returns the text of the page, after adding all datasets to a new home."""
    with tempfile.TemporaryDirectory() as home:
        return page(data, outcomes(data, Path(home)))


if __name__ == "__main__":
    Path(__file__).with_name("formats.md").write_text(run(Path(sys.argv[1]).resolve()))
