"""The commands `serve`, `stream`, `tokenize` and `mix`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from choline_data.cli.output import emit, shown, table
from choline_data.errors import InvalidOptionError
from choline_data.places.home import Home


def serve(**options: Any) -> int:
    """Runs `choline-data serve`. Returns the exit code of the server."""
    from choline_data.service.serve import run

    home = options.pop("home")
    code: int = run(Home(home or None), **options)
    return code


def stream(
    home: str,
    mix: str,
    *,
    server: str,
    view: str,
    start: int,
    count: int,
    form: str,
    seed: int,
    shuffle: bool,
    where: str,
    token_file: str,
) -> None:
    """Runs `choline-data stream`: writes samples to standard output, for pipes."""
    import orjson

    from choline_data.json_values import plain

    if form not in ("jsonl", "text"):
        raise InvalidOptionError(f"--format {form!r}: no such format.", remedy="Give jsonl or text.")
    from choline_data.client import FirehoseDataset

    dataset = FirehoseDataset(
        _mix(mix),
        server=server or None,
        home=_home_beside(server, home),
        view="text" if form == "text" and view == "samples" else view,
        seed=seed,
        shuffle=shuffle,
        where=where or None,
        token=Path(token_file).read_text().strip() if token_file else None,
        max_samples=start + count if count else None,
        repeat=bool(count),
        rank=0,
        world_size=1,
    )
    if start:
        dataset.seek(start)
    out = sys.stdout.buffer
    for sample in dataset:
        if form == "text":
            out.write((sample.get("text") or "").encode() + b"\n")
        else:
            named = {"id": sample["id"].hex()} if "id" in sample else {}  # hexadecimal, as in the HTTP API
            out.write(orjson.dumps(plain({**sample, **named})) + b"\n")
    out.flush()


def _mix(text: str) -> str | Path:
    return Path(text) if text.endswith((".yaml", ".yml", ".json")) and Path(text).is_file() else text


def _home_beside(server: str, home: str) -> str | None:
    """Returns the home to read. If a server is set, ignores a home from the environment. A home from `--home` is kept,
    and refused later.
    """
    return None if not home or (server and home == os.environ.get("CHOLINE_DATA_HOME")) else home


def tokenize(home: str, names: list[str], *, tokenizer: str, boundary: str, workers: int, as_json: bool) -> None:
    """Runs `choline-data tokenize`: stores the tokens of datasets."""
    from rich.console import Console
    from rich.progress import Progress

    from choline_data.store import Catalog
    from choline_data.tokens.token_store import tokenize as make
    from choline_data.tokens.tokenizers import Tokenizer

    where = Home(home or None)
    catalog = Catalog(where)
    engine = Tokenizer(tokenizer)
    for name in names:
        entry = catalog.entry(name)
        with Progress(console=Console(stderr=True), transient=True, disable=as_json or not sys.stderr.isatty()) as bar:
            task = bar.add_task(name, total=entry.rows)

            def step(documents: int, _: int, task: Any = task, bar: Any = bar) -> None:
                bar.update(task, advance=documents)

            tokens = make(where, entry.revision, engine, boundary, workers=workers, progress=step)
        if as_json:
            emit({"name": name, "revision": entry.revision, "documents": tokens.documents, "tokens": tokens.tokens})
        else:
            sys.stdout.write(f"{name}: {tokens.tokens:,} tokens of {tokens.documents:,} samples\n")


def explain(home: str, mix: str, *, tokens: float, as_json: bool) -> None:
    """Runs `choline-data mix explain`."""
    from dataclasses import asdict

    from choline_data.mix.explain import explain as told

    answer = told(_mix(mix), Home(home or None), tokens=tokens)
    if as_json:
        for source in answer.sources:
            emit(asdict(source))
        return
    headers = ("source", "split", "share", "of tokens", "samples", "tokens", "epochs", "runs out at", "licence")
    rows = [
        (
            s.name,
            shown(s.split or "-", 30),
            f"{s.share:.2%}",
            f"{s.token_share:.2%}",
            f"{s.samples:,}",
            f"{s.tokens:,}",
            f"{s.epochs:,.2f}{' !' if s.repeated else ''}",
            "-" if s.runs_out is None else f"{s.runs_out:,}",
            shown(s.license, 30),
        )
        for s in answer.sources
    ]
    table(headers, rows)
    for note in answer.notes:
        sys.stdout.write(f"{shown(note, 400)}\n")


def import_mix(home: str, text: str) -> None:
    """Runs `choline-data mix import`: converts a mix of another tool, from a file, standard input or the argument itself."""
    from choline_data.mix.foreign import import_mix as read
    from choline_data.store import Catalog

    raw = sys.stdin.read() if text == "-" else Path(text).read_text() if os.path.isfile(text) else text
    sizes = {name: entry.rows for name, entry in Catalog(Home(home or None)).entries().items()}
    sys.stdout.write(read(raw, sizes=sizes).to_yaml())
