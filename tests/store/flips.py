"""Damages one file of a small home at a time, reads everything, and follows the remedy that is printed.

    python -m tests.store.flips --flips 1000 --remedies 100 --seed 0

The home has every kind of file that a home can have. After each damage, every read must give the same rows as before, or an
error of ours. It must never give other rows or a traceback. For --remedies of the damages, the command that the error or
`verify` prints is run. After that, `verify` must find nothing and the reads must be as before.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tests.served import Served

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.export import export
from choline_data.catalog.ingest import UnitResult
from choline_data.catalog.planning import Wishes
from choline_data.catalog.register_in_place import register
from choline_data.catalog.runners import encode_result
from choline_data.client.dataset import FirehoseDataset
from choline_data.errors import CholineDataError
from choline_data.mix import resolve_mix
from choline_data.order.recipe import Recipe
from choline_data.places.home import Home
from choline_data.store import Catalog, id_index, open_revision
from choline_data.store.windows import Store
from choline_data.tokens.token_store import tokenize
from choline_data.tokens.token_stream import token_options, token_rows
from choline_data.tokens.tokenizers import Tokenizer
from choline_data.upkeep.check import check
from choline_data.views import open_stream

WHERE = "len(text) > 21"
WAYS = ("flip", "flip", "flip", "cut", "zeros", "empty", "swap", "gone")
_UNSEEN = ("claims", "read", "catalog HEAD")  # their content is free; an older number is a good hint too
Outcome = tuple[str, str]  # ("rows", digest) or ("error", the error's class)


@dataclass
class Campaign:
    """A home with a file of every kind, the folder of its sources, and what its reads gave while it was sound."""

    home: Home
    sources: Path
    files: dict[str, bytes]
    kinds: dict[str, list[str]]
    outcomes: dict[str, Outcome]


def build(folder: Path) -> Campaign:
    """Makes the sources and the home."""
    sources = folder / "sources"
    sources.mkdir(parents=True)
    home = Home(folder / "home")
    web = sources / "web.jsonl"
    web.write_text('{"text": "an earlier page"}\n{not json\n')
    _add(home, web, "web", as_kind="text", max_rejects=0.9)
    lines = [json.dumps({"text": f"page {n} of the web: " + "word " * (n % 7), "score": n}) for n in range(60)]
    web.write_text("\n".join([*lines, "{not json"]) + "\n")
    _add(home, web, "web", replace=True, as_kind="text", max_rejects=0.5)
    chats = sources / "chats.jsonl"
    turns = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": "an answer"}]
    chats.write_text("".join(json.dumps({"messages": [*turns, turns[0], turns[n % 2]]}) + "\n" for n in range(20)))
    _add(home, chats, "chats", as_kind="chat")
    small = sources / "small.jsonl"
    small.write_text("".join(json.dumps({"text": f"a compressed text {n % 5}"}) + "\n" for n in range(40)))
    _add(home, small, "small", as_kind="text", compression="zstd", dedup="exact")
    pages = sources / "pages.parquet"
    table = pa.table({"text": [f"a page in place {n}" for n in range(30)], "rank": list(range(30))})
    pq.write_table(table, pages, row_group_size=10, write_page_checksum=True)
    register(home, prepare(home, str(pages), name="pages", wishes=Wishes(as_kind="text")))
    _made(home, folder)
    found = Campaign(home, sources, {}, {}, {})
    found.outcomes = reads(home)  # these make the selections and the packing indexes
    assert all(kind == "rows" for kind, _ in found.outcomes.values()), found.outcomes
    places = {name: home.path(name) for name in home.names("")} | {"pages.parquet": str(pages)}
    found.files = {path: Path(path).read_bytes() for path in places.values()}
    for name, path in places.items():
        found.kinds.setdefault(_kind(name), []).append(path)
    return found


def _add(home: Home, source: Path, name: str, *, replace: bool = False, dedup: str = "", **wishes: Any) -> None:
    prepared = prepare(home, str(source), name=name, wishes=Wishes(**wishes))
    ingest(home, prepared, dedup=dedup, replace_existing=replace)


def _made(home: Home, folder: Path) -> None:
    """Tokens, indexes by id, a tokenizer, the result of a job, and a claim."""
    entries = Catalog(home).entries()
    for name in ("web", "chats", "pages"):
        tokenize(home, entries[name].revision, Tokenizer("bytes"))
        id_index.make(home, open_revision(home, entries[name].revision))
    try:
        import tokenizers
    except ModuleNotFoundError:
        pass
    else:
        words = {word: n for n, word in enumerate(["[UNK]", "page", "of", "the", "web", "word", "<|endoftext|>"])}
        made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
        made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        made.add_special_tokens(["<|endoftext|>"])
        made.save(str(folder / "tokenizer.json"))
        tokenize(home, entries["web"].revision, Tokenizer(str(folder / "tokenizer.json")))
    job = f"jobs/{'0' * 32}/000000.json"
    home.put(job, encode_result(job, UnitResult(0, (), 0, (), 0)))
    home.put("claims/" + "a" * 64, b"0123456789abcdef")


def _kind(name: str) -> str:
    top, last = name.split("/")[0], name.rsplit("/", 1)[-1]
    if top == "tokens":
        return f"tokens {re.sub(r'-[0-9a-f]{32}', '', last)}"
    if top in ("data", "revisions"):
        return f"{top} {last.rsplit('.', 1)[-1]}"
    return "catalog HEAD" if last == "HEAD" else top


def reads(home: Home) -> dict[str, Outcome]:
    """What each way to read the home gives now."""
    out: dict[str, Outcome] = {}

    def read(name: str, how: Callable[[], Any]) -> None:
        try:
            digest = hashlib.sha256(repr(how()).encode()).hexdigest()
        except CholineDataError as error:
            out[name] = ("error", type(error).__name__)
            _REMEDIES.append(f"{error.message} {error.remedy}")
        except Exception as error:  # noqa: BLE001 - what is to be found
            out[name] = ("traceback", f"{type(error).__name__}: {error}")
        else:
            out[name] = ("rows", digest)

    _REMEDIES.clear()
    keys = ("name", "revision", "kind", "rows", "rejected", "bytes", "license", "source")
    read("list", lambda: [[getattr(e, key) for key in keys] for e in Catalog(home).entries().values()])
    for name in ("web", "chats", "small", "pages"):
        read(f"head {name}", lambda name=name: _rows(home, name, 3))
        read(f"export {name}", lambda name=name: _exported(home, name))
    everything = {"web": 2.0, "chats": 1.0, "small": 1.0, "pages": 1.0}
    read("samples", lambda: _stream(home, everything, "samples"))
    read("text", lambda: _stream(home, {"web": 1.0, "small": 1.0}, "text"))
    read("where", lambda: _stream(home, {"web": {"weight": 1.0, "where": WHERE}}, "samples"))
    for packing in ("concat", "bfd"):
        options = token_options("bytes", 32, packing)
        read(f"tokens {packing}", lambda options=options: _stream(home, {"web": 1, "chats": 1}, "tokens", options))
    for name in ("web", "pages"):
        read(f"by id {name}", lambda name=name: _by_id(home, name))
    return out


def served_reads(home: Home) -> dict[str, Outcome]:
    """What a client gets from a server of the home that is started now."""
    try:
        server = Served(home.location)
    except AssertionError as error:  # with the text that the server wrote
        kind = "traceback" if "Traceback" in str(error) else "error"
        return dict.fromkeys(("served samples", "served tokens"), (kind, str(error)[-300:]))
    out: dict[str, Outcome] = {}
    with server:
        for name, more in (("samples", {}), ("tokens", {"view": "tokens", "tokenizer": "bytes", "seq_len": 32})):
            try:
                dataset = FirehoseDataset({"web": 1.0, "chats": 1.0}, server=server.address, seed=5, **more)
                rows = [str(row) for row in itertools.islice(dataset, 100)]
            except CholineDataError as error:
                out[f"served {name}"] = ("error", type(error).__name__)
            except Exception as error:  # noqa: BLE001 - what is to be found
                out[f"served {name}"] = ("traceback", f"{type(error).__name__}: {error}")
            else:
                out[f"served {name}"] = ("rows", hashlib.sha256(repr(rows).encode()).hexdigest())
    return out


_REMEDIES: list[str] = []  # what the errors of the last reads say


def _rows(home: Home, name: str, count: int) -> list[Any]:
    revision = open_revision(home, Catalog(home).entry(name).revision)
    return [batch.to_pylist() for batch in revision.read(0, min(count, revision.rows))]


def _exported(home: Home, name: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        export(home, Catalog(home).entry(name), "jsonl", folder + "/out")
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def _stream(home: Home, mix: object, view: str, options: dict[str, str] | None = None) -> list[Any]:
    store = Store(home)
    more = {"options": options, "rows_of": token_rows(Tokenizer("bytes"))} if options else {}
    recipe: Recipe = resolve_mix(mix, store, seed=5, view=view, **more)
    batch = open_stream(store, recipe, None).read_at(np.arange(200))
    return batch.to_pylist()


def _by_id(home: Home, name: str) -> list[Any]:
    revision = open_revision(home, Catalog(home).entry(name).revision)
    ids = [i for batch in revision.read(0, revision.rows, ["id"]) for i in batch["id"].to_pylist()]
    rows = id_index.rows_of(home, revision, ids[::7])
    return [rows.tolist(), [revision.read(row, row + 1)[0].to_pylist() for row in rows.tolist()]]


def damage(campaign: Campaign, chance: random.Random, way: str) -> str:
    """Damages one file, of a kind that is chosen first. Says what was done."""
    kind = chance.choice(sorted(campaign.kinds))
    path = chance.choice(campaign.kinds[kind])
    raw = campaign.files[path]
    others = [other for other in campaign.kinds[kind] if campaign.files[other] != raw]
    if way == "swap" and not others:
        way = "flip"
    if way == "flip":
        bit = chance.randrange(max(len(raw), 1) * 8)
        changed = bytearray(raw)
        if changed:
            changed[bit // 8] ^= 1 << bit % 8
        _write(path, bytes(changed))
        return f"{kind}: bit {bit} of {path} flipped"
    if way == "gone":
        os.unlink(path)
    elif way == "swap":
        _write(path, campaign.files[chance.choice(others)])
    elif way == "cut":
        _write(path, raw[: chance.randrange(len(raw) or 1)])
    elif way == "zeros":
        start = chance.randrange(len(raw) // 512 + 1) * 512
        _write(path, raw[:start] + bytes(len(raw[start : start + 512])) + raw[start + 512 :])
    else:
        _write(path, b"")
    return f"{kind}: {path} {way}"


def _write(path: str, content: bytes) -> None:
    """Writes a file in the place of another one, so that what is mapped stays as it was."""
    staged = f"{path}.staged"
    Path(staged).write_bytes(content)
    os.replace(staged, path)


def restore(campaign: Campaign, times: dict[str, int]) -> None:
    """Brings the home and its sources back as they were."""
    home, now = campaign.home, set()
    for name in home.names(""):
        path = home.path(name)
        now.add(path)
        if path not in campaign.files:
            os.unlink(path)
    for path, content in campaign.files.items():
        if not os.path.exists(path) or Path(path).read_bytes() != content:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            _write(path, content)
            os.utime(path, ns=(times[path], times[path]))


def follow(campaign: Campaign, remedies: list[str], times: dict[str, int]) -> str:
    """Does what the first of the remedies says, by the command line."""
    from choline_data.cli.app import app

    for remedy in remedies:
        if "Bring it back" in remedy or "Bring the file back" in remedy:
            pages = str(campaign.sources / "pages.parquet")
            _write(pages, campaign.files[pages])
            os.utime(pages, ns=(times[pages], times[pages]))
            return "brought back"
        found = re.search(r"`choline-data ([^`]*)`", remedy)
        if found:
            stdout, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115 - closed below
            try:
                code = app([*shlex.split(found[1]), "--home", campaign.home.location], standalone_mode=False)
            finally:
                sys.stdout.close()
                sys.stdout = stdout
            return f"{found[1]} (exit code {code})"
    return "no remedy"


def run(
    folder: Path,
    flips: int,
    remedies: int,
    seed: int,
    served: int = 0,
    said: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Damages the home `flips` times. Gives what went wrong.

    In the first `remedies` of them it follows the remedy; in the last `served` of them it also reads through a server.
    """
    campaign = build(folder)
    chance = random.Random(seed)
    times = {path: os.stat(path).st_mtime_ns for path in campaign.files}
    if served:
        campaign.outcomes.update(served_reads(campaign.home))
        restore(campaign, times)
    wrong: list[str] = []
    tally: Counter[str] = Counter()
    for number in range(flips):
        way = "flip" if number % 2 else chance.choice(WAYS)
        what = damage(campaign, chance, way)
        got = reads(campaign.home)
        printed = list(_REMEDIES)
        if number >= flips - served:
            got.update(served_reads(campaign.home))
        for name, outcome in got.items():
            tally[outcome[0] if outcome[0] != "rows" else "the same rows"] += outcome == campaign.outcomes[name] or (
                outcome[0] != "rows"
            )
            if outcome[0] == "traceback" or (outcome[0] == "rows" and outcome != campaign.outcomes[name]):
                wrong.append(f"{what}: {name} gave {outcome}")
        if number < remedies:
            wrong += [f"{what}: {fault}" for fault in _remedied(campaign, printed, times, what)]
        restore(campaign, times)
        if number % 100 == 99:
            said(f"{number + 1} damages: {dict(tally)}, {len(wrong)} wrong")
    said(f"kinds of files: {', '.join(sorted(campaign.kinds))}")
    said(f"{flips} damages, {min(remedies, flips)} remedies followed: {dict(tally)}, {len(wrong)} wrong")
    return wrong


def _remedied(campaign: Campaign, printed: list[str], times: dict[str, int], what: str) -> list[str]:
    """What is wrong after the remedy: nothing, where it repairs."""
    report = check(campaign.home)
    remedies = printed + [fault.remedy for fault in report.faults]
    if "gone" not in what and not what.startswith(_UNSEEN) and not report.faults:
        return ["verify does not see it"]
    if not remedies:
        return []
    did = follow(campaign, remedies, times)
    left = check(campaign.home).faults
    if left:
        return [f"after {did} verify still says {left[0]} {left[0].remedy}"]
    after = reads(campaign.home)
    return [f"after {did} {name} gave {o}" for name, o in after.items() if o != campaign.outcomes[name]]


def main() -> int:
    """The campaign by its flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=1000, help="number of damages")
    parser.add_argument("--remedies", type=int, default=100, help="damages whose remedy is run")
    parser.add_argument("--served", type=int, default=20, help="damages that a server reads")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage")
    flags = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="choline-flips-"))
    began = time.monotonic()
    try:
        wrong = run(folder, flags.flips, flags.remedies, flags.seed, flags.served, lambda line: print(line, flush=True))
    finally:
        shutil.rmtree(folder)
    for line in wrong[:40]:
        print(line)
    print(f"{len(wrong)} wrong of {flags.flips}, in {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
