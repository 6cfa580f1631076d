"""Mixes of other tools, pasted as they stand in their files."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choline_data.errors import InvalidMixError
from choline_data.mix import import_mix, parse_mix


def weights(imported):
    return {part.name: part.weight for part in imported.mix.parts}


@pytest.mark.parametrize(
    "text",
    [
        "30 /data/web_text_document 70 /data/code_text_document",
        "--data-path 30 /data/web_text_document 70 /data/code_text_document --split 949,50,1",
        "torchrun pretrain.py --seq-length 4096 --data-path \\\n  0.3 web_text_document \\\n  0.7 code_text_document",
        "--train-data-path=30 web 70 code",
    ],
)
def test_a_megatron_blend(text):
    imported = import_mix(text)
    assert imported.tool == "Megatron"
    assert weights(imported)["web"] / weights(imported)["code"] == Fraction(3, 7)


def test_megatron_prefixes_without_weights_are_shared_by_size():
    assert weights(import_mix("--data-path a b", sizes={"a": 10, "b": 30})) == {"a": 10, "b": 30}
    assert "in proportion to their rows" in import_mix("--data-path a b").notes[0]


def test_a_call_of_interleave_datasets():
    imported = import_mix(
        """
        from datasets import load_dataset, interleave_datasets
        """.strip()
        + """
web = load_dataset("HuggingFaceFW/fineweb-edu", name="sample-10BT", split="train", streaming=True)
probs = [0.7, 0.2, 0.1]
ds = interleave_datasets(
    [web, load_dataset("openai/gsm8k", "main", split="train[:50%]").shuffle(seed=1), other],
    probabilities=probs, seed=42, stopping_strategy="all_exhausted",
)
"""
    )
    first, second, third = imported.mix.parts
    assert (first.dataset, first.config, first.split, first.weight) == (
        "fineweb-edu",
        "sample-10BT",
        "train",
        Fraction(7, 10),
    )
    assert (second.dataset, second.config, second.split, second.weight) == (
        "gsm8k",
        "main",
        "train",
        Fraction(1, 5),
    )
    assert (third.dataset, third.weight) == ("other", Fraction(1, 10))
    assert imported.seed == 42
    assert any("other is a variable" in note for note in imported.notes)
    assert imported.on_exhausted == "repeat"
    assert any("on_exhausted='repeat'" in note for note in imported.notes)


@pytest.mark.parametrize(
    ("strategy", "ours"),
    [
        ("first_exhausted", "stop"),
        ("all_exhausted", "repeat"),
        ("all_exhausted_without_replacement", "renormalize"),
    ],
)
def test_each_stopping_strategy_has_a_name_of_ours(strategy, ours):
    imported = import_mix(f"interleave_datasets([a, b], stopping_strategy='{strategy}')")
    assert imported.on_exhausted == ours
    assert [part.max_epochs for part in imported.mix.parts] == [1, 1]


def test_a_stopping_strategy_that_is_none_is_refused():
    with pytest.raises(InvalidMixError, match="no stopping_strategy 'sometimes'"):
        import_mix("interleave_datasets([a, b], stopping_strategy='sometimes')")


def test_first_exhausted_becomes_stop_after_one_epoch():
    imported = import_mix("interleave_datasets([a, b])")
    assert imported.on_exhausted == "stop"
    assert [part.max_epochs for part in imported.mix.parts] == [1, 1]
    assert weights(imported) == {"a": 1, "b": 1}


def test_a_mosaicml_streams_block():
    text = """
train_loader:
  name: text
  dataset:
    streams:
      web: {remote: "s3://bucket/web", local: /tmp/web, split: train, proportion: 0.75}
      code:
        local: /tmp/code
        proportion: 0.25
"""
    imported = import_mix(text)
    assert weights(imported) == {"web/train": Fraction(3, 4), "code": Fraction(1, 4)}
    assert imported.origins["web/train"] == "s3://bucket/web"
    assert imported.mix.unit == "samples"
    repeated = import_mix(
        "streams:\n  a: {remote: a, repeat: 2}\n  b: {remote: b, repeat: 0.5}\n", sizes={"a": 10, "b": 40}
    )
    assert weights(repeated) == {"a": 20, "b": 20}
    assert [part.max_epochs for part in repeated.mix.parts] == [2, Fraction(1, 2)]
    assert weights(import_mix("streams:\n  a: {choose: 300}\n  b: {choose: 100}\n")) == {"a": 300, "b": 100}


def test_an_axolotl_list():
    text = """
base_model: x
datasets:
  - path: tatsu-lab/alpaca
    type: alpaca
  - {path: openai/gsm8k, name: main, split: "train[:10%]", type: chat_template}
  - {path: openai/gsm8k, name: socratic}
"""
    imported = import_mix(text, sizes={"alpaca": 52_000, "gsm8k": 7000})
    assert weights(imported) == {"alpaca": 52_000, "gsm8k:main/train": 7000, "gsm8k:socratic": 7000}
    assert any("only train[:10%] was asked for" in note for note in imported.notes)


@pytest.mark.parametrize(
    "text",
    [
        "30 web 70 code",
        "interleave_datasets([a, b], [0.5, 0.5])",
        "streams: {a: {proportion: 1}}",
        "datasets:\n- path: x/y\n- path: z\n  split: test",
    ],
)
def test_what_is_imported_is_a_mix_file_of_ours(text):
    imported = import_mix(text)
    again = parse_mix(imported.to_yaml())
    assert [(p.name, p.dataset, p.split, p.max_epochs) for p in again.parts] == [
        (p.name, p.dataset, p.split, p.max_epochs) for p in imported.mix.parts
    ]
    assert imported.to_yaml().startswith("# from ")


@pytest.mark.parametrize(
    "text",
    [
        "", "web", "30 web 70", "30 70 web code", "interleave_datasets(", "interleave_datasets()",
        "interleave_datasets(x)",
        "interleave_datasets([a, b], probabilities=[1])", "interleave_datasets([a], probabilities=[__import__('os')])",
        "interleave_datasets([a], probabilities=['1'])", "interleave_datasets([1 + 1])",
        "interleave_datasets([a], [-1])",
        "interleave_datasets" + "(" * 5000, "datasets: [1]", "datasets: [{name: x}]", "streams: {a: {proportion: x}}",
        "streams: {a: {repeat: -1}}", "1 '", "x" * 70_000, "streams: {a: &x 1, b: *x}",
        "datasets:\n" + "  " * 9 + "[" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_mix_is_refused(text):
    with pytest.raises(InvalidMixError) as caught:
        import_mix(text)
    assert "\n" not in str(caught.value)


@given(
    st.lists(
        st.sampled_from(
            [
                "interleave_datasets(",
                "load_dataset(",
                ")",
                "[",
                "]",
                "'a'",
                "0.5",
                ",",
                "a",
                "=",
                "streams:",
                "datasets:",
                " ",
                "\n",
                "- ",
                "path: ",
                "{",
                "}",
                "--data-path ",
            ]
        ),
        max_size=16,
    ).map("".join)
)
def test_any_text_is_a_mix_or_a_stated_error(text):
    with contextlib.suppress(InvalidMixError):
        import_mix(text)
