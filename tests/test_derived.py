"""Derived data of a home: the quota, eviction by last use, collection by `gc`, and streams that continue without them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from choline_data.catalog.repair import repair
from choline_data.errors import InvalidOptionError, LimitError, UnavailableError
from choline_data.mix import resolve_mix
from choline_data.places.home import Home
from choline_data.store import derived, open_revision
from choline_data.store.derived import DerivedQuota, Item, collectable, items, remove
from choline_data.store.id_index import index_name, rows_of, size_of
from choline_data.store.leases import GC, Lease
from choline_data.store.windows import Store
from choline_data.tokens.token_store import TokenKey, stored, tokenize
from choline_data.tokens.token_stream import TokenStream, token_options, token_rows
from choline_data.tokens.tokenizers import Tokenizer
from choline_data.where.selection import selected_rows

TEXTS = {"text": [f"text {number} " + "w" * (number % 50) for number in range(500)]}
WHERE = "len(text) > {}"


def opened(home: Home, entry: Any) -> Any:
    return open_revision(home, entry.revision)


def aged(home: Home, item: Item, seconds: float) -> None:
    """Makes an item look as if it was used so long ago."""
    for name in item.files:
        path = home.path(name)
        at = os.stat(path).st_mtime - seconds
        os.utime(path, (at, at))


def token_stream(home: Home, mix: object = "web", **options: Any) -> TokenStream:
    store = Store(home)
    told = {"options": token_options(**{"seq_len": 16, **options}), "rows_of": token_rows()}
    return TokenStream(store, resolve_mix(mix, store, view="tokens", shuffle=False, repeat=False, **told))


def eighth_id(revision: Any) -> list[bytes]:
    return [value for batch in revision.read(0, 8, ["id"]) for value in batch["id"].to_pylist()][7:]


def names(home: Home) -> list[str]:
    return [item.name for item in items(home)]


def test_selections_stay_within_the_quota_and_the_least_lately_used_go(shelf):
    web = opened(shelf.home, shelf.add("web", TEXTS))
    rows = [selected_rows(shelf.home, web, WHERE.format(n)).tolist() for n in range(6)]
    listed = items(shelf.home)
    assert len(listed) == 6 and all(item.revision == web.revision for item in listed)
    for number, item in enumerate(listed):
        aged(shelf.home, item, 1000 - number)
    kept = listed[0]
    shelf.home.derived = DerivedQuota(limit=sum(item.size for item in listed))
    shelf.home.derived.mark(shelf.home, kept.name)  # the one that was used first is used again
    selected_rows(shelf.home, web, WHERE.format(40))
    left = items(shelf.home)
    assert sum(item.size for item in left) <= shelf.home.derived.limit
    assert kept.name in names(shelf.home) and listed[1].name not in names(shelf.home)
    again = [selected_rows(shelf.home, web, WHERE.format(n)).tolist() for n in range(6)]
    assert again == rows


def test_many_small_selections_stay_within_the_number_of_files(shelf):
    web = opened(shelf.home, shelf.add("web", TEXTS))
    shelf.home.derived = DerivedQuota(files=20)
    for number in range(60):
        selected_rows(shelf.home, web, WHERE.format(number))
    assert 15 <= len(items(shelf.home)) <= 20


def test_what_is_above_the_whole_quota_is_made_each_time(shelf):
    entry = shelf.add("web", TEXTS)
    web = opened(shelf.home, entry)
    ids = eighth_id(web)
    shelf.home.derived = DerivedQuota(limit=100)
    assert (
        selected_rows(shelf.home, web, WHERE.format(20)).tolist()
        == selected_rows(shelf.home, web, WHERE.format(20)).tolist()
    )
    assert rows_of(shelf.home, web, ids).tolist() == [7]
    assert items(shelf.home) == []
    with pytest.raises(LimitError, match="no room") as caught:
        token_stream(shelf.home)
    assert caught.value.metadata["setting"] == "derived_bytes"
    tokenize(shelf.home, entry.revision, Tokenizer("bytes"))  # what the remedy says
    assert token_stream(shelf.home).length


def test_the_size_of_an_index_is_known_before_it_is_made(shelf):
    web = opened(shelf.home, shelf.add("web", TEXTS))
    rows_of(shelf.home, web, [b"x" * 16])
    assert shelf.home.size(index_name(web.revision)) == size_of(web.rows)


def test_tokens_of_a_request_are_evicted_and_made_again_and_those_of_the_command_are_not(shelf):
    shelf.add("web", TEXTS)
    code = shelf.add("code", {"text": ["def f(): pass"] * 90})
    tokenize(shelf.home, code.revision, Tokenizer("bytes"))
    before = token_stream(shelf.home)
    rows = before.read(0, before.length)
    (item,) = items(shelf.home)
    assert item.mapped and item.name.endswith("/meta.json") and item.files[-1].endswith("/on-request")
    shelf.home.derived = DerivedQuota(limit=1)
    assert derived.of(shelf.home).room(shelf.home, 1) is False  # in use just now
    aged(shelf.home, item, derived.MAPPED_SECONDS + 1)
    assert derived.of(shelf.home).room(shelf.home, 1) is True
    assert not Path(shelf.home.path(os.path.dirname(item.name))).exists()
    assert before.read(0, before.length).equals(rows)  # the stream that has them mapped goes on
    shelf.home.derived = None
    assert token_stream(shelf.home).read(0, before.length).equals(rows)
    assert stored(shelf.home, TokenKey(code.revision, Tokenizer("bytes").digest, "eos"))


def test_tokens_of_a_request_that_the_command_makes_too_are_kept(shelf):
    web = shelf.add("web", TEXTS)
    token_stream(shelf.home)
    assert len(items(shelf.home)) == 1
    tokenize(shelf.home, web.revision, Tokenizer("bytes"))
    assert items(shelf.home) == []


def test_a_stream_that_goes_on_marks_its_tokens_as_used(shelf, monkeypatch):
    monkeypatch.setattr(derived, "MARK_SECONDS", 0.0)
    shelf.add("web", TEXTS)
    stream = token_stream(shelf.home)
    (item,) = items(shelf.home)
    aged(shelf.home, item, 10_000)
    stream.read(0, 1)
    assert items(shelf.home)[0].used > item.used - 5


def test_tokens_that_were_evicted_in_part_are_made_again(shelf):
    shelf.add("web", TEXTS)
    stream = token_stream(shelf.home)
    rows = stream.read(0, stream.length)
    (item,) = items(shelf.home)
    shelf.home.remove(next(name for name in item.files if name.endswith("tokens.bin")))
    assert token_stream(shelf.home).read(0, stream.length).equals(rows)


def test_an_eviction_that_met_a_making_leaves_nothing_that_is_damaged_for_ever(shelf, monkeypatch):
    monkeypatch.setattr(derived, "MARK_SECONDS", 0.0)
    shelf.add("web", TEXTS)
    stream = token_stream(shelf.home)
    rows = stream.read(0, stream.length)
    for lost in (
        ("tokens.bin", "on-request"),
        ("sums.bin", "on-request"),
        ("meta.json",),
        ("on-request", "starts.bin"),
    ):
        (item,) = items(shelf.home)
        for name in item.files:
            if name.endswith(lost):
                shelf.home.remove(name)
        again = token_stream(shelf.home)
        assert again.read(0, stream.length).equals(rows)
        (item,) = items(shelf.home)
        aged(shelf.home, item, 10_000)
        again.read(0, 1)
        assert items(shelf.home)[0].used > item.used - 5  # a use of it is marked from then on


def test_an_index_of_packed_rows_is_one_item_and_is_made_again(shelf):
    web = shelf.add("web", TEXTS)
    tokenize(shelf.home, web.revision, Tokenizer("bytes"))
    stream = token_stream(shelf.home, packing="bfd")
    rows = stream.read(0, stream.length)
    (item,) = items(shelf.home)
    assert [name.rpartition(".")[2] for name in item.files] == ["json", "bin"]
    remove(shelf.home, item)
    assert token_stream(shelf.home, packing="bfd").read(0, stream.length).equals(rows)
    shelf.home.remove(items(shelf.home)[0].files[1])
    assert token_stream(shelf.home, packing="bfd").read(0, stream.length).equals(rows)


def test_a_stream_says_what_it_holds(shelf):
    web = shelf.add("web", TEXTS)
    tokenize(shelf.home, web.revision, Tokenizer("bytes"))
    assert token_stream(shelf.home).held_bytes == 0
    assert token_stream(shelf.home, packing="bfd", seq_len=4).held_bytes > 32 * 500
    filtered = {"web": {"weight": 1, "where": WHERE.format(20)}}
    assert token_stream(shelf.home, filtered).held_bytes >= 3 * 8 * 300


def test_a_dataset_above_what_is_tokenized_on_request_says_the_command(shelf):
    shelf.add("web", TEXTS)
    shelf.home.derived = DerivedQuota(tokens=10)
    with pytest.raises(InvalidOptionError, match="choline-data tokenize web"):
        token_stream(shelf.home)


def test_who_would_wait_too_long_for_another_making_is_sent_away(shelf):
    shelf.add("web", TEXTS)
    shelf.home.derived = DerivedQuota(wait=0.01)
    with shelf.home.derived.making("Tokens"), pytest.raises(UnavailableError, match="being made"):
        token_stream(shelf.home)
    assert token_stream(shelf.home).length


def test_gc_collects_what_is_of_no_revision_and_what_is_above_the_quota(shelf):
    web = opened(shelf.home, shelf.add("web", TEXTS))
    code = opened(shelf.home, shelf.add("code", {"text": ["a", "bb"]}))
    for number in range(4):
        selected_rows(shelf.home, web, WHERE.format(number))
    selected_rows(shelf.home, code, WHERE.format(1))
    of_code = [item.name for item in collectable(shelf.home, {web.revision})]
    assert len(of_code) == 1 and code.revision in of_code[0]
    assert collectable(shelf.home, {web.revision, code.revision}) == []
    shelf.home.derived = DerivedQuota(limit=3 * items(shelf.home)[0].size)
    gone = collectable(shelf.home, {web.revision, code.revision})
    assert [item.name for item in gone] == names(shelf.home)[: len(gone)] and len(gone) == 2


def test_the_quota_is_a_setting_of_the_environment(shelf, monkeypatch):
    monkeypatch.setenv(derived.VARIABLE, "4096")
    assert derived.of(shelf.home).limit == 4096
    monkeypatch.setenv(derived.VARIABLE, "many")
    with pytest.raises(InvalidOptionError, match=derived.VARIABLE):
        derived.of(Home(shelf.home.location))


@pytest.mark.parametrize("kept", ["selections", "ids", "tokens"])
def test_a_home_that_may_only_be_read_is_served_without(shelf, kept, monkeypatch):
    entry = shelf.add("web", TEXTS)
    web = opened(shelf.home, entry)
    tokenize(shelf.home, entry.revision, Tokenizer("bytes"))
    expected = token_stream(shelf.home, packing="bfd").length
    for item in items(shelf.home):
        remove(shelf.home, item)

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("create", "put", "adopt", "new_staging_path", "hint", "remove"):
        monkeypatch.setattr(shelf.home, name, refused, raising=True)
    if kept == "selections":
        assert selected_rows(shelf.home, web, WHERE.format(20)).size
    elif kept == "ids":
        ids = eighth_id(web)
        assert rows_of(shelf.home, web, ids).tolist() == [7]
    else:
        assert token_stream(shelf.home, packing="bfd").length == expected
    assert items(shelf.home) == []


def test_on_an_object_store_the_last_use_is_an_object_beside(shelf):
    pytest.importorskip("fsspec")
    shelf.home = Home("memory://derived-home")
    web = opened(shelf.home, shelf.add("web", TEXTS))
    try:
        rows = [selected_rows(shelf.home, web, WHERE.format(n)).tolist() for n in range(10)]
        listed = names(shelf.home)
        shelf.home.derived = DerivedQuota(limit=sum(item.size for item in items(shelf.home)))
        shelf.home.derived.mark(shelf.home, listed[0])  # used again, after all others
        assert shelf.home.names("used") == [f"used/{listed[0]}"]
        selected_rows(shelf.home, web, WHERE.format(11))
        assert listed[0] in names(shelf.home) and listed[1] not in names(shelf.home)
        assert [selected_rows(shelf.home, web, WHERE.format(n)).tolist() for n in range(10)] == rows
        shelf.home.derived = DerivedQuota()
        shelf.home.derived.mark(shelf.home, listed[0])
        shelf.home.remove(listed[0])
        assert any(item.files == (f"used/{listed[0]}",) for item in collectable(shelf.home, {web.revision}))
    finally:
        shelf.home.remove("")


def test_a_request_does_not_wait_for_gc_as_long_as_a_command_does(shelf):
    shelf.add("web", TEXTS)
    shelf.home.derived = DerivedQuota(wait=0.01)
    gc = Lease(shelf.home, GC, "gc")
    try:
        with pytest.raises(UnavailableError, match="gc has been running"):
            token_stream(shelf.home)
    finally:
        gc.release()
    assert token_stream(shelf.home).length


def test_repair_leaves_tokens_of_a_request_what_they_are(shelf):
    shelf.add("web", TEXTS)
    rows = token_stream(shelf.home).read(0, 5)
    (item,) = items(shelf.home)
    path = Path(shelf.home.path(next(name for name in item.files if name.endswith("tokens.bin"))))
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))
    repair(shelf.home)
    assert token_stream(shelf.home).read(0, 5).equals(rows)
    assert [found.name for found in items(shelf.home)] == [item.name]
