"""The keyed bijection: exhaustive for small sizes, random up to 2^40."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from choline_data.order.permute import Permutation, Permutations, key_of, keys_of, scramble, shuffle_table, unscramble

from .conftest import adjacent_correlation

SIZES = st.one_of(
    st.integers(1, 1 << 40),
    st.integers(0, 39).flatmap(lambda power: st.sampled_from([(1 << power) - 1, 1 << power, (1 << power) + 1])),
).filter(lambda n: n > 0)


def test_every_size_up_to_2000_is_a_bijection_with_an_inverse():
    for n in range(1, 2001):
        every = np.arange(n)
        there = Permutation(n, key_of("test", n))
        out = there(every)
        assert np.array_equal(np.sort(out), every), n
        assert np.array_equal(there.inverse(out), every), n


def test_sizes_around_the_table_and_around_squares_are_bijections():
    for n in (1023, 1024, 1025, 1026, 4095, 4096, 4097, 65_535, 65_537, 99_991, 262_144):
        every = np.arange(n)
        out = Permutation(n, 7)(every)
        assert np.array_equal(np.sort(out), every), n
        assert np.array_equal(Permutation(n, 7).inverse(out), every), n


@given(SIZES, st.integers(0, (1 << 64) - 1), st.data())
@example(1 << 40, 0, None)
@settings(deadline=None)
def test_large_sizes_stay_inside_and_come_back(n, key, data):
    there = Permutation(n, key)
    asked = [0, n - 1] if data is None else data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=50))
    x = np.array(asked, dtype=np.int64)
    y = there(x)
    assert y.min() >= 0
    assert y.max() < n
    assert np.array_equal(there.inverse(y), x)
    assert len(set(y.tolist())) == len(set(asked))


def test_a_size_outside_of_the_range_is_refused():
    for n in (0, -1, 1 << 60):
        with pytest.raises(ValueError, match=f"a permutation of {n} numbers"):
            Permutation(n, 1)
    assert Permutation((1 << 60) - 1, 1)(np.array([5]))[0] < 1 << 60


def test_the_input_is_left_as_it_was():
    x = np.arange(2000)
    Permutation(2000, 3)(x)
    assert np.array_equal(x, np.arange(2000))


@pytest.mark.parametrize("n", [1000, 1025, 50_000])
def test_neighbours_are_torn_apart(n):
    # |r| of a random order of n is about 1/sqrt(n); 20 keys together are held to 0.02.
    found = [adjacent_correlation(Permutation(n, key)(np.arange(n))) for key in range(20)]
    assert abs(np.mean(found)) < 0.02
    assert max(map(abs, found)) < 4.5 / np.sqrt(n)


@pytest.mark.parametrize("n", [1024, 1025, 30_000])
def test_keys_give_unrelated_orders(n):
    orders = [Permutation(n, key_of(key))(np.arange(n)) for key in range(30)]
    fixed = [int((a == b).sum()) for i, a in enumerate(orders) for b in orders[:i]]
    assert np.mean(fixed) == pytest.approx(1, abs=0.35)
    assert max(fixed) < 10
    assert np.mean([int((order == np.arange(n)).sum()) for order in orders]) < 2


def test_every_place_is_reached_about_equally_often():
    n, keys = 1030, 3000
    first = np.array([Permutation(n, key_of("u", key))(np.array([0, 515, n - 1])) for key in range(keys)])
    for column in first.T:
        counts = np.bincount(column * 10 // n, minlength=10)
        assert ((counts - keys / 10) ** 2 / (keys / 10)).sum() < 30  # chi-square, 9 degrees: p < 0.0005


def test_a_key_depends_on_every_part_its_kind_and_its_place():
    keys = [
        key_of(), key_of(0), key_of(1), key_of("1"), key_of(""), key_of("a", "b"), key_of("ab"), key_of("b", "a"),
        key_of(-1), key_of(1, 2), key_of(2, 1), key_of("a", 1), key_of(1, "a"),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert key_of(-1) == key_of((1 << 64) - 1)
    assert all(0 <= key < 1 << 64 for key in keys)


@given(
    st.lists(st.one_of(st.integers(-5, 5), st.text(max_size=5)), max_size=3),
    st.lists(st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 9)), min_size=1, max_size=5),
)
def test_many_keys_are_those_of_their_parts(parts, numbers):
    keys = keys_of(*parts, numbers=np.array(numbers, dtype=np.int64))
    assert keys.tolist() == [key_of(*parts, *row) for row in numbers]


def test_the_scrambler_is_the_published_one():
    # splitmix64 seeded with 0, 1 and 2^64 - 1: the first output of each.
    words = scramble(np.array([0, 1, (1 << 64) - 1], dtype=np.uint64))
    assert [f"{int(word):016x}" for word in words] == [
        "e220a8397b1dcdaf",
        "910a2dec89025cc1",
        "e4d971771b652c20",
    ]


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=9))
def test_the_scrambler_can_be_undone(numbers):
    words = np.array(numbers, dtype=np.uint64)
    assert unscramble(scramble(words)).tolist() == numbers
    assert scramble(unscramble(words)).tolist() == words.tolist() == numbers


def test_a_table_has_every_number_once():
    assert sorted(shuffle_table(100, 5).tolist()) == list(range(100))
    assert shuffle_table(100, 5).tolist() != shuffle_table(100, 6).tolist()


@given(SIZES, st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=5), st.data())
@settings(deadline=None)
def test_many_keys_permute_as_each_key_does_alone(n, keys, data):
    pairs = st.tuples(st.integers(0, len(keys) - 1), st.integers(0, n - 1))
    which, x = np.array(data.draw(st.lists(pairs, min_size=1, max_size=30)), dtype=np.int64).T
    together = Permutations(n, keys)
    y = together(which, x)
    assert y.tolist() == [int(Permutation(n, keys[key])(np.array([at]))[0]) for key, at in zip(which, x, strict=True)]
    assert together.inverse(which, y).tolist() == x.tolist()


def test_many_permutations_of_a_size_outside_of_the_range_are_refused():
    for n in (0, 1 << 60):
        with pytest.raises(ValueError, match=f"a permutation of {n} numbers"):
            Permutations(n, [1])
