"""A home in an object store: a flipped bit in any kind of object is an error or no change, and `repair` puts it back."""

from __future__ import annotations

import random
import uuid

import fsspec
import numpy as np
import pytest

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.catalog.repair import repair
from choline_data.errors import CholineDataError
from choline_data.mix import resolve_mix
from choline_data.places.home import Home
from choline_data.store import Catalog, id_index, open_revision
from choline_data.store.windows import Store
from choline_data.tokens.token_store import tokenize
from choline_data.tokens.token_stream import token_options, token_rows
from choline_data.tokens.tokenizers import Tokenizer
from choline_data.upkeep.check import check
from choline_data.views import open_stream

KINDS = ("data/", "revisions/", "catalog/0", "copies/", "selections/", "ids/", "tokens/")


def read(home: Home) -> list[object]:
    store = Store(home)
    out: list[object] = []
    for mix, view, more in (
        ({"web": {"weight": 1.0, "where": "len(text) > 16"}}, "samples", {}),
        ("web", "tokens", {"options": token_options("bytes", 16), "rows_of": token_rows(Tokenizer("bytes"))}),
    ):
        recipe = resolve_mix(mix, store, view=view, seed=1, **more)
        out.append(open_stream(store, recipe, None).read_at(np.arange(30)).to_pylist())
    revision = open_revision(home, Catalog(home).entry("web").revision)
    ids = [i for batch in revision.read(0, 5, ["id"]) for i in batch["id"].to_pylist()]
    return [*out, id_index.rows_of(home, revision, ids).tolist()]


def outcome(home: Home) -> list[object] | str:
    """What is read, or the remedy of the error."""
    try:
        return read(home)
    except CholineDataError as error:
        return error.remedy


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_an_error_or_no_change_and_the_repair_puts_it_back(tmp_path, kind):
    (tmp_path / "web.jsonl").write_text("".join(f'{{"text": "page {n} of the web"}}\n' for n in range(20)) + "{no\n")
    home = Home(f"memory://flips-{uuid.uuid4().hex}")
    wishes = Wishes(as_kind="text", max_rejects=0.5)
    revision = ingest(home, prepare(home, str(tmp_path / "web.jsonl"), name="web", wishes=wishes)).entry.revision
    tokenize(home, revision, Tokenizer("bytes"))
    before = read(home)
    chance = random.Random(kind)
    files = fsspec.filesystem("memory")
    for name in [name for name in home.names("") if name.startswith(kind)]:
        raw = bytearray(home.read(name))
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        files.pipe_file(home.path(name), bytes(raw))
        assert check(home).faults, name
        said = outcome(home)  # tokens that were made on request are made again at once
        assert said == before or "choline-data repair" in str(said)
        assert not repair(home).left
        assert read(home) == before
