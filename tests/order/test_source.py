"""One source's order: each epoch has every row once, windows have the stated ranges, and sorted data are mixed well."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choline_data.order.source import WINDOW_BLOCKS, RowOrders, SourceOrder

from .conftest import adjacent_correlation, mixedness


def order(rows, block_rows, **options):
    return SourceOrder(rows, block_rows, **{"seed": 1, "key": "web", **options})


def test_every_epoch_has_every_row_once_for_all_small_sizes():
    for rows, block_rows in itertools.product([*range(1, 70), 127, 128, 129, 200], [1, 2, 3, 7, 64]):
        for shuffle in (True, False):
            found = order(rows, block_rows, shuffle=shuffle).rows_of(0, 3 * rows).reshape(3, rows)
            assert np.array_equal(np.sort(found, axis=1), np.tile(np.arange(rows), (3, 1))), (
                rows,
                block_rows,
            )


@given(st.integers(1, 20_000), st.integers(1, 300), st.integers(0, 5), st.integers(-5, 5))
@settings(max_examples=60, deadline=None)
def test_any_epoch_has_every_row_once(rows, block_rows, epoch, seed):
    found = order(rows, block_rows, seed=seed).rows_of(epoch * rows, rows)
    assert np.array_equal(np.sort(found), np.arange(rows))


@given(st.integers(1, 3000), st.integers(1, 9), st.integers(0, 6000), st.integers(1, 500))
@settings(max_examples=60, deadline=None)
def test_a_rank_has_its_row_wherever_reading_begins(rows, block_rows, first, count):
    whole = order(rows, block_rows).rows_of(0, first + count)
    assert np.array_equal(order(rows, block_rows).rows_of(first, count), whole[first:])


def test_ranks_may_be_asked_for_with_gaps():
    asked = np.array([0, 5, 6, 130, 131, 399, 400, 1000])
    source = order(200, 2)
    whole = source.rows_of(0, 1001)
    found = np.empty(len(asked), dtype=np.int64)
    for run in source.runs(asked):
        places = np.concatenate([np.arange(a, b) for a, b in source.ranges(run.epoch, run.window)])
        assert len(places) == source.window_size(run.epoch, run.window)
        found[run.at] = places[run.rows]
    assert np.array_equal(found, whole[asked])


def test_source_order_is_kept_without_shuffle():
    assert order(10, 3, shuffle=False).rows_of(0, 25).tolist() == [*range(10), *range(10), *range(5)]
    big = order(1000, 2, shuffle=False)
    assert big.ranges(0, 0) == [(0, 128)]
    assert big.ranges(0, big.windows - 1) == [(896, 1000)]


def test_a_window_is_64_blocks_and_the_short_block_may_lie_in_any():
    seen = set()
    for seed in range(60):
        source = order(1001, 5, seed=seed)  # 201 blocks, the last of one row
        assert source.windows == 4
        sizes = [source.window_size(0, window) for window in range(4)]
        assert sum(sizes) == 1001
        short = [window for window in range(4) if (1000, 1001) in source.ranges(0, window)]
        assert len(short) == 1
        blocks = [64, 64, 64, 9]
        assert sizes == [5 * n - (4 if window in short else 0) for window, n in enumerate(blocks)]
        seen |= set(short)
        for window in range(4):
            assert all(a % 5 == 0 and b == min(a + 5, 1001) for a, b in source.ranges(0, window))
    assert {0, 1, 2} <= seen


def test_a_run_lies_in_one_window_and_the_runs_cover_the_ranks():
    source = order(1001, 5)
    runs = list(source.runs(np.arange(700, 1400)))
    assert runs[0].at.start == 0
    assert all(a.at.stop == b.at.start for a, b in itertools.pairwise(runs))
    assert runs[-1].at.stop == 700
    assert [run.epoch for run in runs] == sorted(run.epoch for run in runs)
    assert {run.epoch for run in runs} == {0, 1}


def test_seeds_epochs_and_sources_have_orders_of_their_own():
    base = order(500, 4).rows_of(0, 500)
    assert not np.array_equal(base, order(500, 4, seed=2).rows_of(0, 500))
    assert not np.array_equal(base, order(500, 4, key="code").rows_of(0, 500))
    assert not np.array_equal(base, order(500, 4).rows_of(500, 500))
    assert np.array_equal(base, order(500, 4).rows_of(0, 500))


def test_windows_have_orders_of_their_own():
    source = order(64 * 4 * 3, 4)
    picks = [next(source.runs(np.arange(window * 256, (window + 1) * 256))).rows for window in range(3)]
    assert not np.array_equal(picks[0], picks[1])
    assert not np.array_equal(picks[1], picks[2])


def test_the_orders_of_windows_are_shared_and_bounded_in_bytes():
    picks = RowOrders(8 * 256 * 8)  # eight windows of 256 rows
    source = order(64 * 4 * 12, 4, picks=picks)
    whole = source.rows_of(0, source.rows)
    for window in range(12):
        list(source.runs(np.array([window * 256])))
    held = [window for window in range(12) if picks.get((1, "web", source.rows, 4, 0, window)) is not None]
    assert held == [*range(4, 12)]
    again = order(64 * 4 * 12, 4, picks=picks)
    assert np.array_equal(again.rows_of(0, source.rows), whole)
    assert np.array_equal(
        order(64 * 4 * 12, 4, picks=picks, key="other").rows_of(0, 9), order(64 * 4 * 12, 4, key="other").rows_of(0, 9)
    )


def test_no_rows_or_no_block_rows_are_refused():
    for rows, block_rows in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="both must be at least 1"):
            order(rows, block_rows)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_class_sorted_source_that_fits_a_window_comes_out_as_random(classes):
    rows = 6400
    labels = np.arange(rows) * classes // rows
    assert mixedness(labels, 64) < 0.02
    assert mixedness(labels[order(rows, 100).rows_of(0, rows)], 64) > 0.99


@pytest.mark.parametrize("blocks", [640, 2000])
def test_a_class_sorted_source_of_many_windows_is_mixed_to_a_stated_bound(blocks):
    # A window has 64 random blocks of 10 classes: each batch comes from a sample of 64 and not of all, which
    # costs about 1/64 of the range of the metric.
    rows = blocks * 16
    labels = np.arange(rows) * 10 // rows
    found = mixedness(labels[order(rows, 16).rows_of(0, rows)], 64)
    assert 0.95 < found < 1
    assert found > 1 - 2 / WINDOW_BLOCKS


def test_neighbours_in_the_source_are_not_neighbours_in_the_stream():
    one_window = [adjacent_correlation(order(60_000, 1000, seed=seed).rows_of(0, 60_000)) for seed in range(8)]
    assert max(map(abs, one_window)) < 0.02


def test_over_many_windows_neighbours_correlate_by_the_inverse_of_the_window():
    # The mean of 64 random blocks strays from that of all: r is 1/64 = 0.016 on average, twice that at the worst.
    found = [adjacent_correlation(order(50_000, 64, seed=seed).rows_of(0, 50_000)) for seed in range(12)]
    assert abs(np.mean(found)) < 0.02
    assert max(map(abs, found)) < 2.2 / WINDOW_BLOCKS


def test_the_metric_knows_the_ends_of_its_scale():
    alternating = np.tile([0, 1], 500)
    assert mixedness(alternating, 10) == 1
    assert mixedness(np.repeat([0, 1], 500), 10) == 0
    assert mixedness(np.zeros(100), 10) == 1
    assert mixedness([], 10) == 1
    assert mixedness(["a", "b"], 10) == 1
    chance = np.random.Generator(np.random.PCG64(1)).permutation(np.repeat(np.arange(10), 1000))
    assert mixedness(chance, 50) == pytest.approx(1, abs=0.01)
    half = np.concatenate([np.repeat([0, 1], 500), np.tile([0, 1], 500)])
    assert mixedness(half, 10) == pytest.approx(0.5, abs=0.06)


def test_the_metric_of_small_sequences_is_known_to_the_last_digit():
    # Two labels with shares 1/2; batches aa, ab: distances 1 and 0, expected (2 - 1) / 2 * (4 - 2) / 3, worst 1.
    assert mixedness([0, 0, 0, 1, 1, 1], 2) == pytest.approx(1 - (2 / 3 - 0.4) / 0.6)
    assert mixedness([0, 0, 1, 1, 0], 2) == 0
    assert mixedness([0, 1, 0, 1], 2) == 1
    assert mixedness([0, 1], 1) == 1
    assert mixedness([0, 1, 0], 2) == 1
    assert adjacent_correlation(np.arange(10)) == pytest.approx(1)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("rows", [1, 100, 64 * 3, 64 * 3 * 5 + 7])
def test_windows_follow_one_another_and_then_the_next_epoch_where_the_source_repeats(rows, shuffle):
    source = order(rows, 3, shuffle=shuffle)
    runs = list(source.runs(np.arange(3 * rows)))
    met = [(run.epoch, run.window) for run in runs]
    for run, after in zip(runs, met[1:], strict=False):
        assert source.following(run, repeats=True) == after
        assert source.following(run, repeats=False) == (after if after[0] == run.epoch else None)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_run_is_past_half_from_the_middle_rank_of_its_window_on(shuffle):
    source = order(64 * 3 * 2 + 50, 3, shuffle=shuffle)
    for epoch in range(2):
        start = epoch * source.rows
        for window in range(source.windows):
            size = source.window_size(epoch, window)
            told = [source.past_half(next(source.runs(np.array([start + at])))) for at in range(size)]
            assert told == [at * 2 >= size for at in range(size)]
            (whole,) = source.runs(np.arange(start, start + size))
            assert whole.last == start + size - 1 and source.past_half(whole)
            start += size


@given(
    st.integers(1, 5000),
    st.integers(1, 90),
    st.booleans(),
    st.lists(st.integers(0, 15_000), min_size=1, max_size=80),
)
@settings(deadline=None)
def test_the_rows_of_scattered_ranks_are_those_of_the_whole_order(rows, block_rows, shuffle, asked):
    whole = order(rows, block_rows, shuffle=shuffle).rows_of(0, 15_001)
    ranks = np.unique(asked)
    assert np.array_equal(order(rows, block_rows, shuffle=shuffle).rows_at(ranks), whole[ranks])
    dense = np.unique(np.minimum(ranks[0] + np.arange(60), 15_000))
    assert np.array_equal(order(rows, block_rows, shuffle=shuffle).rows_at(dense), whole[dense])


def test_ranks_are_scattered_where_they_are_few_in_each_of_many_windows():
    of = order(1_000_000, 16)
    assert of.scattered(np.arange(0, 10**9, 10**6))
    assert not of.scattered(np.arange(100_000))
    assert not of.scattered(np.array([7]))
    assert not of.scattered(np.array([0, 3000]))
