"""The recipe: canonical JSON, checks of untrusted recipes, and new segments that leave old cursors valid."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.recipes import with_segment

from choline_data.errors import InvalidMixError, RecipeMismatchError, SourceExhaustedError
from choline_data.order.recipe import (
    MAX_SEGMENTS,
    MAX_SOURCE_BATCH,
    MAX_SOURCES,
    Recipe,
    RecipeSource,
    Segment,
    difference,
)

REVISION = "ab" * 32


def source(name="web", rows=100, **options):
    return RecipeSource(name, name, REVISION, **{"rows": rows, "block_rows": 4, **options})


def recipe(*sources, weights=None, **options):
    sources = sources or (source("web"), source("code", 10))
    weights = weights or {s.name: 1 for s in sources}
    return Recipe(tuple(sources), (Segment(0, weights),), **options)


def test_the_digest_is_that_of_the_canonical_json():
    one = recipe(source("web"), source("code", 10, max_epochs="3/2"), weights={"web": 7, "code": 3}, seed=5)
    assert one.to_json() == orjson.dumps(
        {
            "on_exhausted": "renormalize",
            "options": {},
            "seed": 5,
            "segments": [{"start": 0, "weights": {"code": 3, "web": 7}}],
            "shuffle": True,
            "sources": [
                {
                    "block_rows": 4,
                    "dataset": "code",
                    "max_epochs": "3/2",
                    "name": "code",
                    "revision": REVISION,
                    "rows": 10,
                },
                {"block_rows": 4, "dataset": "web", "name": "web", "revision": REVISION, "rows": 100},
            ],
            "version": 1,
            "view": "samples",
        }
    )
    assert one.digest == hashlib.sha256(one.to_json()).hexdigest()
    assert Recipe.from_json(one.to_json()) == one
    assert Recipe.from_json(one.to_json().decode()).digest == one.digest


def test_a_recipe_without_batches_of_one_source_says_nothing_of_them_and_keeps_its_digest():
    old = b'{"on_exhausted":"renormalize","options":{},"seed":0,"segments":[{"start":0,"weights":{"code":1,"web":1}}],'
    old += b'"shuffle":true,"sources":[{"block_rows":4,"dataset":"code","name":"code","revision":"%s","rows":10},'
    old += b'{"block_rows":4,"dataset":"web","name":"web","revision":"%s","rows":100}],"version":1,"view":"samples"}'
    old %= (REVISION.encode(), REVISION.encode())
    assert recipe().to_json() == old
    assert Recipe.from_json(old) == recipe()
    batched = recipe(source_batch=8)
    assert orjson.loads(batched.to_json())["source_batch"] == 8
    assert Recipe.from_json(batched.to_json()) == batched
    assert batched.digest != recipe().digest


def test_a_stream_that_must_not_lose_a_source_says_which_one_runs_out_and_where():
    one = recipe(source("web"), source("code", 10, max_epochs="3/2"), on_exhausted="error")
    told = one.exhaustion()
    assert isinstance(told, SourceExhaustedError)
    assert told.metadata == {"source": "code", "position": str(one.plan().length)}
    at = one.plan().length
    assert str(told) == (
        f"code runs out at position {at}, after 15 samples of its 10 rows. Stop there (max_samples={at}), raise its "
        "max_epochs, change the mix there, or choose another on_exhausted: renormalize, stop, repeat."
    )
    assert "after 14 samples of its 10 rows" in str(replace(one, source_batch=7).exhaustion())
    for ends in (
        recipe(on_exhausted="error"),  # never
        recipe(source("code", 10, max_epochs="1"), on_exhausted="error"),  # all at once
        replace(one, on_exhausted="stop"),
    ):
        assert ends.exhaustion() is None


def test_the_order_of_sources_and_weights_does_not_matter():
    a, b = source("a"), source("b")
    assert recipe(a, b, weights={"a": 1, "b": 2}).digest == recipe(b, a, weights={"b": 2, "a": 1}).digest


def test_a_source_that_a_segment_does_not_name_has_nothing_of_it():
    changed = with_segment(recipe(weights={"web": 1, "code": 1}), 100, {"web": 5})
    counts = changed.plan().samples_before
    code, web = counts(100)  # by name
    assert min(code, web) > 30
    assert counts(5000) == [code, web + 4900]


def test_a_digest_that_was_read_before_does_not_become_part_of_the_recipe():
    one = recipe()
    before = one.to_json()
    _ = one.digest
    assert one.to_json() == before


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"shuffle": False},
        {"view": "text"},
        {"on_exhausted": "stop"},
        {"source_batch": 2},
        {"options": {"template": "x"}},
        {"segments": (Segment(0, {"web": 2, "code": 1}),)},
        {"sources": (source("web", 101), source("code", 10))},
        {"sources": (source("web", where="len(text) > 1"), source("code", 10))},
        {"sources": (source("web", split="train"), source("code", 10))},
        {"sources": (source("web", config="en"), source("code", 10))},
    ],
)
def test_whatever_changes_the_stream_changes_the_digest_and_is_told(change):
    one, other = recipe(), replace(recipe(), **change)
    assert one.digest != other.digest
    told = difference(one, orjson.loads(other.to_json()))
    assert next(iter(change)).rstrip("s") in told or "web." in told or "segment" in told


def test_a_difference_names_sources_that_only_one_side_has():
    told = difference(recipe(source("web")), orjson.loads(recipe(source("wob")).to_json()))
    assert "source web is only here" in told
    assert "source wob is only there" in told
    assert difference(recipe(), orjson.loads(recipe().to_json())) == "nothing that the recipes show"


def test_the_key_of_a_source_says_what_is_read_and_not_its_name_or_weight():
    assert source("web").key == source("other").key
    keys = {source(**o).key for o in ({}, {"split": "s"}, {"config": "s"}, {"where": "s"})}
    assert len(keys) == 4


@pytest.mark.parametrize(("epochs", "cap"), [("", None), ("1", 100), ("3/2", 150), ("1/3", 33), ("2", 200)])
def test_a_fraction_of_epochs_caps_whole_samples(epochs, cap):
    assert source(max_epochs=epochs).cap == cap
    assert recipe(source(max_epochs=epochs)).plan().length == cap


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Recipe((), (Segment(0, {}),)), "1 to 4096 sources"),
        (lambda: recipe(source("a"), source("a")), "names of their own"),
        (lambda: recipe(*[source(f"s{n}") for n in range(MAX_SOURCES + 1)]), "1 to 4096 sources"),
        (lambda: recipe(view="pixels"), "view 'pixels'"),
        (lambda: recipe(on_exhausted="wait"), "on_exhausted 'wait'"),
        (lambda: recipe(seed=1 << 63), "a 64-bit seed"),
        (lambda: Recipe((source(),), ()), "begin at position 0"),
        (lambda: Recipe((source(),), (Segment(1, {"web": 1}),)), "begin at position 0"),
        (lambda: with_segment(recipe(), 0, {"web": 1}), "go up"),
        (lambda: with_segment(with_segment(recipe(), 5, {"web": 1}), 5, {"web": 1}), "go up"),
        (lambda: with_segment(recipe(), 5, {"nosuch": 1}), "outside the recipe"),
        (lambda: recipe(weights={"web": 0, "code": 0}), "no weight above 0"),
        (lambda: recipe(weights={"web": -1, "code": 3}), "below 0"),
        (lambda: recipe(weights={"web": 1 << 62, "code": 3}), "above 2^62"),
        (lambda: recipe(weights={"web": 1}), "No segment has a weight for code"),
        (lambda: recipe(source(rows=0)), "no rows to serve"),
        (lambda: recipe(source(block_rows=0)), "no rows to serve"),
        (lambda: with_segment(recipe(), 1 << 60, {"web": 1}), "below position 2\\^60"),
        (lambda: recipe(source_batch=0), "can't have 0 positions"),
        (lambda: recipe(source_batch=MAX_SOURCE_BATCH + 1), "can't have 1048577 positions"),
        (lambda: with_segment(recipe(source_batch=8), 12, {"web": 1}), "multiple of 8"),
        (lambda: recipe(source(rows=7, max_epochs="1"), source_batch=8), "7 samples are less than one batch of 8"),
    ],
)
def test_what_can_not_be_a_recipe_is_refused(make, says):
    with pytest.raises(InvalidMixError, match=says.replace("2^62", r"2\^62")):
        make()


def test_the_edges_of_the_limits_are_recipes():
    recipe(*[source(f"s{n}") for n in range(MAX_SOURCES)])
    recipe(seed=-(1 << 63))
    recipe(source_batch=MAX_SOURCE_BATCH)
    recipe(source(rows=8, max_epochs="1"), source_batch=8)
    recipe(weights={"web": (1 << 62) - 1, "code": 0})
    many = Recipe((source(),), tuple(Segment(n, {"web": 1}) for n in range(MAX_SEGMENTS)))
    with pytest.raises(InvalidMixError, match="at most 1024 segments"):
        with_segment(many, 10**6, {"web": 1})


def test_a_new_segment_keeps_the_cursors_of_the_old_recipe_valid_up_to_its_start():
    first = recipe()
    second = with_segment(first, 1000, {"web": 1, "books": 3}, [source("books", 50)])
    third = with_segment(second, 2000, {"books": 1})
    assert [s.name for s in second.sources] == ["books", "code", "web"]
    assert second.before(1) == first
    assert third.before(2) == second
    assert third.before(1) == first
    third.check_digest(third.digest, 10**9)
    for position, fits in ((0, True), (999, True), (1000, True), (1001, False)):
        if fits:
            second.check_digest(first.digest, position)
            third.check_digest(first.digest, position)
        else:
            with pytest.raises(RecipeMismatchError, match="Resume with the mix"):
                second.check_digest(first.digest, position)
    third.check_digest(second.digest, 2000)
    with pytest.raises(RecipeMismatchError):
        third.check_digest(second.digest, 2001)
    with pytest.raises(RecipeMismatchError) as caught:
        first.check_digest(second.digest, 0)
    assert caught.value.metadata == {"expected": first.digest, "found": second.digest}


def changed(**fields):
    body = orjson.loads(recipe().to_json())
    for key, value in fields.items():
        place = body
        *steps, last = key.split("__")
        for step in steps:
            place = place[int(step) if step.isdigit() else step]
        place[last] = value
    return orjson.dumps(body)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[]", b"null", b"{}", b'"text"', b"\xff", b"[" * 10_000,
        changed(version=2), changed(version=2, epoch=0), changed(version=2, epoch="1"), changed(version=2, epoch=-1),
        changed(version="1"), changed(seed="1"), changed(seed=1.0), changed(seed=True), changed(seed=None),
        changed(shuffle="false"), changed(shuffle=0), changed(view=1), changed(view="pixels"), changed(options=[]),
        changed(options={"a": 1}), changed(on_exhausted=None), changed(segments={}), changed(segments=[]),
        changed(segments__0__start="0"), changed(segments__0__start=0.0), changed(segments__0__weights=[1]),
        changed(segments__0__weights={"web": 1.5, "code": 1}), changed(segments__0__weights={"web": True, "code": 1}),
        changed(sources=[]), changed(sources=None), changed(sources__0__rows="10"), changed(sources__0__rows=0),
        changed(sources__0__rows=1 << 60), changed(sources__0__block_rows=0), changed(sources__0__block_rows=True),
        changed(sources__0__revision="../../etc/passwd"), changed(sources__0__revision="ab" * 31),
        changed(sources__0__revision="AB" * 32), changed(sources__0__name=5), changed(sources__0__surprise=1),
        changed(sources__0__max_epochs="1e999999999"), changed(sources__0__max_epochs="-1"),
        changed(sources__0__max_epochs="1/0"), changed(sources__0__max_epochs="0"), changed(sources__0__max_epochs=2),
        changed(sources__0__where=7),
        changed(source_batch="8"), changed(source_batch=True), changed(source_batch=0),
        changed(sources__0__split=None), changed(sources__0__config=[]),
    ],
)  # fmt: skip
def test_json_that_is_no_recipe_is_refused(raw):
    with pytest.raises(InvalidMixError):
        Recipe.from_json(raw)


def test_a_newer_recipe_says_to_upgrade():
    with pytest.raises(InvalidMixError, match=r"version 3, this software reads 1 to 2. Upgrade"):
        Recipe.from_json(changed(version=3))


def test_a_pass_has_the_same_plan_and_another_seed_of_rows():
    first = recipe(source("web", max_epochs="2"), source("code", 10, max_epochs="1"), seed=5)
    later = first.in_pass(3)
    assert (first.epoch, later.epoch, later.in_pass(2).epoch) == (0, 3, 5)
    assert first.in_pass(0) == first
    assert (later.seed, later.sources, later.segments) == (first.seed, first.sources, first.segments)
    assert later.plan().length == first.plan().length
    seeds = [recipe(seed=seed).in_pass(number).row_seed for seed in (0, 5, -1) for number in range(4)]
    assert [first.row_seed, recipe(seed=-1).row_seed] == [5, -1]
    # Streams of later passes are those of the first release that has them.
    assert [recipe(seed=5).in_pass(1).row_seed, recipe(seed=-1).in_pass(2).row_seed] == [
        16420856196024928839,
        14130229209172708022,
    ]
    assert len(set(seeds)) == 12


def test_the_recipe_of_a_later_pass_has_version_2_and_that_of_the_first_pass_version_1():
    first = recipe(source_batch=5)
    later = first.in_pass(7)
    body = orjson.loads(first.to_json())
    assert later.to_json() == orjson.dumps({**body, "version": 2, "epoch": 7}, option=orjson.OPT_SORT_KEYS)
    assert Recipe.from_json(later.to_json()) == later
    assert later.digest != first.digest
    with pytest.raises(RecipeMismatchError):
        first.check_digest(later.digest, 0)
    assert difference(first, orjson.loads(later.to_json())) == "epoch: None here, 7 there"
    longer = with_segment(later, 10, {"web": 1, "code": 2})
    longer.check_digest(later.digest, 10)


@pytest.mark.parametrize("epoch", [-1, 1 << 62])
def test_a_pass_has_a_number_from_0(epoch):
    with pytest.raises(InvalidMixError, match=f"no pass {epoch}"):
        recipe(epoch=epoch)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["version", "sources", "segments", "seed", "weights", "start"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=10,
    )
)
def test_any_json_is_a_recipe_or_a_stated_error(body):
    with pytest.raises(InvalidMixError):
        Recipe.from_json(orjson.dumps(body))


RANGE = "A recipe must have 1 to 4096 sources with names of their own. Check the mix."
SETTINGS = "Views: samples, text, tokens; on_exhausted: renormalize, stop, repeat, error; a 64-bit seed."
NO_ROWS = "web: there are no rows to serve. Take it out of the mix, or widen its `where`, split or config."


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: recipe(source("a"), source("a")), RANGE),
        (
            lambda: recipe(seed=-(1 << 63) - 1),
            f"view 'samples', on_exhausted 'renormalize' or seed {-(1 << 63) - 1} is not valid. {SETTINGS}",
        ),
        (
            lambda: with_segment(recipe(), 0, {"web": 1}),
            "Segments begin at position 0 and go up. Append segments, never insert them.",
        ),
        (
            lambda: with_segment(recipe(), 1 << 60, {"web": 1}),
            "A recipe has at most 1024 segments, below position 2^60. Start a new stream.",
        ),
        (
            lambda: recipe(weights={"web": 1}),
            "No segment has a weight for code. Give it a weight. The weight may be 0.",
        ),
        (lambda: recipe(source(rows=0)), NO_ROWS),
        (
            lambda: recipe(source_batch=0),
            f"Batches of one source can't have 0 positions. 1 to {MAX_SOURCE_BATCH}.",
        ),
        (
            lambda: recipe(source(rows=7, max_epochs="1"), source_batch=8),
            "web: 7 samples are less than one batch of 8 of one source. "
            "Make batches smaller, raise its max_epochs, or take it out of the mix.",
        ),
        (lambda: Recipe.from_json(b"{}"), "This is not a recipe. Resolve the mix again."),
        (lambda: Recipe.from_json(changed(seed="1")), "This is not a recipe. Resolve the mix again."),
    ],
)
def test_each_refusal_says_what_to_do(make, says):
    with pytest.raises(InvalidMixError) as caught:
        make()
    assert str(caught.value) == says
    if says == NO_ROWS:
        assert caught.value.metadata == {"source": "web"}


def test_a_cursor_of_another_recipe_is_told_both_digests():
    with pytest.raises(RecipeMismatchError) as caught:
        recipe().check_digest("f" * 64, 0)
    assert str(caught.value) == (
        f"The cursor belongs to recipe ffffffffffff…, this stream is {recipe().digest[:12]}…. "
        "Resume with the mix, seed and options of the run that wrote it."
    )


def test_the_smallest_and_the_largest_sources_are_read_back():
    for rows, block_rows in ((1, 1), ((1 << 60) - 1, (1 << 60) - 1)):
        one = recipe(source(rows=rows, block_rows=block_rows), options={"tokenizer": "x"})
        assert Recipe.from_json(one.to_json()) == one
    with pytest.raises(InvalidMixError):
        Recipe.from_json(changed(sources__0__block_rows=1 << 60))


def test_the_plan_has_the_seed_the_weights_and_the_end_of_the_recipe():
    def sources_of(one, stop=400):
        return [n for piece in one.plan().place(0, stop) for n in piece.source.tolist()]

    one = recipe(source("code", 10, max_epochs="1"), source("web"))
    assert sources_of(one) != sources_of(replace(one, seed=1))
    assert set(sources_of(with_segment(one, 100, {"web": 1}))[100:]) == {1}
    assert one.plan().length is None
    stopped = replace(one, on_exhausted="stop").plan().length
    assert 10 <= stopped < 40


def test_so_has_the_plan_of_batches_of_one_source():
    def sources_of(one, stop=400):
        return [n for piece in one.plan().place(0, stop) for n in piece.source.tolist()]

    one = recipe(source("code", 10, max_epochs="2"), source("web"), weights={"code": 3, "web": 1}, source_batch=4)
    got = sources_of(one)
    assert got[::4] == got[3::4]
    assert got.count(0) == 20
    assert got[:24].count(0) > got[:24].count(1)
    assert got != sources_of(replace(one, seed=1))
    assert set(sources_of(with_segment(one, 100, {"web": 1}))[100:]) == {1}
    assert one.plan().length is None
    assert replace(one, on_exhausted="stop").plan().length < 100


def test_a_difference_shows_both_values_and_at_most_six():
    one = recipe()
    assert difference(one, orjson.loads(replace(one, seed=7).to_json())) == "seed: 0 here, 7 there"
    other = orjson.loads(recipe(source("web", 5), source("code", 10)).to_json())
    assert difference(one, other) == "web.rows: 100 here, 5 there"
    assert difference(one, {}).startswith(
        "seed: 0 here, None there; shuffle: True here, None there; view: samples here"
    )
    assert difference(one, {}).count(";") == 5


@given(st.integers(2, 6), st.booleans(), st.integers(1, 3), st.data())
def test_a_cursor_of_any_earlier_form_is_taken_up_to_the_segment_that_ended_it(count, shuffle, size, data):
    one = recipe(source("web"), source("é", 10), source("x", 9), shuffle=shuffle, source_batch=size, options={"a": "b"})
    for number in range(1, count):
        weights = data.draw(st.dictionaries(st.sampled_from(["web", "é", "x", "new"]), st.integers(1, 9), min_size=1))
        one = with_segment(one, number * 60, weights, [source("new", 7)] if "new" in weights else [])
    for number in range(1, count):
        earlier = one.before(number).digest
        one.check_digest(earlier, number * 60)
        with pytest.raises(RecipeMismatchError):
            one.check_digest(earlier, number * 60 + 1)
    one.check_digest(one.digest, 10**9)
    for other in ("", "0" * 64, one.digest.upper()):
        with pytest.raises(RecipeMismatchError):
            one.check_digest(other, 0)
