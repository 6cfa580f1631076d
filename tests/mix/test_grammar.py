"""Every form of a mix, and what is refused."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choline_data.errors import CholineDataError, InvalidMixError
from choline_data.mix import Mix, MixPart, parse_mix
from choline_data.mix.grammar import MAX_DEPTH


def parts(mix, **options):
    """Name and weight of each part."""
    return {part.name: part.weight for part in parse_mix(mix, **options).parts}


@pytest.mark.parametrize(
    "mix",
    [
        {"web": 0.7, "code": 0.3},
        {"web": Decimal("0.7"), "code": Fraction(3, 10)},
        {"web": {"weight": 0.7}, "code": {"weight": 0.3}},
        "web:0.7,code:0.3",
        " web : 0.7 , code:.3, ",
        "web: 0.7\ncode: 3e-1\n",
        '{"web": 0.7, "code": 0.3}',
        "sources:\n  web: 0.7\n  code:\n    weight: 0.30\n",
        "[web:0.7, {dataset: code, weight: 0.3}]",
        [{"name": "web", "weight": 0.7}, {"code": 0.3}],
        Mix((MixPart("web", Fraction("0.7"), dataset="web"), MixPart("code", Fraction("0.3"), dataset="code"))),
    ],
)
def test_all_forms_say_the_same(mix):
    assert parts(mix) == {"web": Fraction(7, 10), "code": Fraction(3, 10)}


def test_a_weight_that_is_not_given_is_1():
    assert parts("web") == parts(["web"]) == parts({"web": {"split": "train"}}) | {} == {"web": 1}
    assert parts(["web", "code:2"]) == {"web": 1, "code": 2}


def test_a_reference_names_revision_config_and_split():
    (part,) = parse_mix("web@3f9c01:en-US/train:0.5").parts
    assert (part.dataset, part.revision, part.config, part.split, part.weight) == (
        "web",
        "3f9c01",
        "en-US",
        "train",
        Fraction(1, 2),
    )
    (part,) = parse_mix("web/train").parts
    assert (part.dataset, part.config, part.split) == ("web", "", "train")
    (part,) = parse_mix(
        {"long": {"dataset": "web:en", "where": "len(text) > 9", "split": "test", "max_epochs": 1.5}}
    ).parts
    assert part == MixPart(
        "long", dataset="web", config="en", split="test", where="len(text) > 9", max_epochs=Fraction(3, 2)
    )


def test_groups_and_temperatures_are_read():
    (part,) = parse_mix("*^0.7").parts
    assert (part.group, part.temperature, part.dataset) == ("*", Fraction(7, 10), "")
    assert [part.group for part in parse_mix("kind:chat:2,license:permissive,tag:x,language:en,*").parts] == [
        "kind:chat", "license:permissive", "tag:x", "language:en", "*",
    ]  # fmt: skip
    assert parse_mix("kind:chat^0.5:2").parts[0].weight == 2


def test_a_mix_in_a_mix_has_a_weight_of_its_own():
    _, science = parse_mix({"web": 1, "science": {"weight": 0.5, "mix": {"physics": 2, "biology": 1}}}).parts
    assert (science.weight, [part.name for part in science.mix.parts]) == (
        Fraction(1, 2),
        ["physics", "biology"],
    )
    assert parse_mix({"web": 1, "science": {"physics": 2, "biology": 1}}).parts[1].weight == 1
    assert parse_mix({"science": {"mix": "a:1,b:2"}}).parts[0].mix.parts[1].weight == 2
    assert parse_mix({"science": parse_mix("a,b")}).parts[0].mix == parse_mix("a,b")


def test_a_file_is_read_where_files_are_allowed(tmp_path):
    path = tmp_path / "mix.yaml"
    path.write_text("unit: tokens\nsources:\n  web: 3\n  code: 1\n")
    assert parse_mix(path).unit == "tokens"
    assert parts(str(path), files=True) == {"web": 3, "code": 1}
    with pytest.raises(InvalidMixError, match="names a file"):
        parse_mix(str(path))
    with pytest.raises(InvalidMixError, match="can't be read"):
        parse_mix(tmp_path / "nosuch.yaml")


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        ({}, "empty"),
        ("", "empty"),
        (" , ", "empty"),
        ([], "empty"),
        (None, "can't be a NoneType"),
        (7, "can't be a int"),
        (b"web", "can't be a bytes"),
        ({"web": -1}, "'web' is negative"),
        ({"web": -0.5}, "'web' is negative"),
        ({"web": float("nan")}, "'web' is nan"),
        ({"web": float("inf")}, "'web' is inf"),
        ({"web": Decimal("1e999999999")}, "weight of 'web' is 1E+999999999"),
        ({"web": 10**400}, "too many digits"),
        ({"web": True}, "'web' is a bool"),
        ({"web": "1"}, "'web' is a str"),
        ({"web": None}, "'web' is a NoneType"),
        ({"web": [1]}, "'web' is a list"),
        ({"web": 0}, "All weights of the mix are 0"),
        ({"web": 0, "code": 0.0}, "All weights of the mix are 0"),
        ({1: 1}, "is not the name of a dataset"),
        ({"web": 1, "x": {"weight": 1, "wheer": "a"}}, "no option 'wheer'. Did you mean 'where'"),
        ({"x": {"weight": 1, "where": 5}}, "where of 'x' is a int"),
        ({"x": {"max_epochs": 0}}, "max_epochs of 'x' is 0"),
        ({"x": {"max_epochs": -1}}, "max_epochs of 'x'"),
        ({"x": {"max_epochs": "1e9"}}, "max_epochs of 'x'"),
        ({"x": {"max_epochs": True}}, "max_epochs of 'x'"),
        ({"x": {"max_epochs": "1/0"}}, "max_epochs of 'x'"),
        ("web:1,web:2", "'web' twice"),
        (["web", "web"], "'web' twice"),
        ("web: 1\nweb: 2\n", "'web' twice"),
        ("web:-1", "weight of 'web' is '-1'"),
        ("web:nan", "weight of 'web' is 'nan'"),
        ("web:inf", "weight of 'web' is 'inf'"),
        ("web:", "weight of 'web' is ''"),
        ("web:1e9999", "weight of 'web'"),
        ("web:0.5.5", "weight of 'web'"),
        ("Web", "is not the name of a dataset"),
        ("web code", "is not the name of a dataset"),
        ("web@latest", "is not the name of a dataset"),
        ("a/../b", "is not the name of a dataset"),
        ("a..b", "is not the name of a dataset"),
        ("kind:chats", "no kind 'chats'. Did you mean 'chat'"),
        ("tag:", "weight of 'tag'"),
        ({"tag:": 1}, "is not a group"),
        ("*^", "temperature"),
        ("*^-1", "temperature"),
        ("*^11", "temperature"),
        ("{web: ", "is not YAML"),
        ("- web\n- [code]\n", "is not an entry of a mix"),
        ("a: &x 1\nb: *x\n", "a YAML alias"),
        ("a: !!python/object/apply:os.system [id]\nb: 1", "is not YAML (line 1)"),
        ({"unit": "words", "sources": {"web": 1}}, "no unit 'words'"),
        ("[" * 30_000, "nested too deep"),
    ],
)
def test_a_mix_that_makes_no_sense_is_refused_with_the_reason(mix, says):
    with pytest.raises(InvalidMixError) as caught:
        parse_mix(mix)
    assert says in str(caught.value)


def test_an_error_names_its_source():
    with pytest.raises(InvalidMixError) as caught:
        parse_mix({"web": 1, "code": -1})
    assert caught.value.metadata["source"] == "code"


def test_the_limits_hold_at_their_edge():
    assert len(parse_mix({f"d{n}": 1 for n in range(4096)}).parts) == 4096
    with pytest.raises(InvalidMixError, match="more than 4096 sources"):
        parse_mix({f"d{n}": 1 for n in range(4097)})
    parse_mix("a:1" + " " * (65_536 - 3))
    with pytest.raises(InvalidMixError, match="longer than 65536 bytes"):
        parse_mix("a:1" + " " * (65_536 - 2))
    nested = {"web": 1}
    for _ in range(MAX_DEPTH - 1):
        nested = {"m": {"mix": nested}}
    parse_mix(nested)
    with pytest.raises(InvalidMixError, match="nested more than"):
        parse_mix({"m": {"mix": nested}})
    endless = {}
    endless["m"] = {"mix": endless}
    with pytest.raises(InvalidMixError, match="nested more than"):
        parse_mix(endless)


_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True)
_SINGLE = st.fixed_dictionaries(
    {"weight": st.integers(1, 10**20) | st.fractions(Fraction(1, 1000), 1000)},
    optional={
        "where": st.just("len(text) > 1"),
        "max_epochs": st.fractions(Fraction(1, 9), 9, max_denominator=10**9),
        "split": _NAMES,
        "config": _NAMES,
    },
)
_GROUPED = st.dictionaries(st.sampled_from(["*", "*^0.5", "kind:chat", "tag:x^2"]), st.integers(1, 9), min_size=1)
_MIXES = st.recursive(
    st.dictionaries(_NAMES, _SINGLE, min_size=1, max_size=4) | _GROUPED,
    lambda inner: st.dictionaries(
        _NAMES, st.fixed_dictionaries({"weight": st.integers(1, 9), "mix": inner}), min_size=1, max_size=3
    ),
    max_leaves=6,
)


def same(one, other):
    """Whether two mixes are equal but for a common factor of each level's weights."""
    factor = one.parts[0].weight / other.parts[0].weight
    return len(one.parts) == len(other.parts) and all(
        a.weight == b.weight * factor
        and [getattr(a, k) for k in vars(a) if k not in ("weight", "mix")]
        == [getattr(b, k) for k in vars(b) if k not in ("weight", "mix")]
        and (a.mix is None) == (b.mix is None)
        and (a.mix is None or same(a.mix, b.mix))
        for a, b in zip(one.parts, other.parts, strict=True)
    )


@given(_MIXES)
def test_the_text_of_a_mix_is_read_back_as_that_mix(mix):
    parsed = parse_mix(mix)
    assert same(parse_mix(parsed.to_text()), parsed)


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*"{}[]:,*^@/-\n ", "web", "0.5", "kind", "weight", "mix", "sources"]), max_size=14).map(
        "".join
    )
)
def test_any_text_is_a_mix_or_a_stated_error(text):
    with contextlib.suppress(InvalidMixError):
        parse_mix(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["a", "weight", "mix", "sources", "unit", "max_epochs", "where"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    )
)
def test_any_value_is_a_mix_or_a_stated_error(value):
    with contextlib.suppress(InvalidMixError):
        parse_mix(value)


@pytest.mark.parametrize("file", ["hostile_mixes", "hostile_names"])
def test_hostile_mixes_and_names_are_mixes_or_stated_errors(shared_data, library, file):
    from choline_data.mix import resolve_mix

    for mix in json.loads((shared_data / f"hostile/config/{file}.json").read_text()):
        for form in (mix, {mix: 1} if isinstance(mix, str) else json.dumps(mix)):
            with contextlib.suppress(CholineDataError):
                assert resolve_mix(form, library.home).sources
