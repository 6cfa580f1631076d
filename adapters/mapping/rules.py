"""The rules that recognise columns by the names that public datasets use. Each rule yields the mappings that it suggests, if any.

Names are compared without case, blanks and punctuation. A rule looks at names first, then at types and content. For
example, a column that is called `text` but holds links is not a text. Scores: 0.9 and more if names and content agree, 0.7 if
only one of them does, 0.5 for a guess. A complete kind lowers the score of kinds that are a part of it.
"""

from __future__ import annotations

from dataclasses import replace

from choline_data.adapters.mapping import rules_of_content, rules_of_turns
from choline_data.adapters.mapping.find import Find
from choline_data.adapters.mapping.mapped_columns import Look

KIND_OF_FORM = {
    "document": "text",
    "code": "text",
    "parallel": "text",
    "messages": "chat",
    "sharegpt": "chat",
    "prompt_completion": "chat",
    "instances": "chat",
    "summarisation": "chat",
    "tree": "chat",
    "preference": "preference",
    "kto": "preference",
    "multiple_choice": "qa",
    "qa": "qa",
    "classification": "classification",
    "token_labels": "annotation",
    "annotation": "annotation",
    "media": "image",
    "table": "tabular",
}

# Rules for turns come before rules for content, because turns consist of texts and other content.
RULES = (*rules_of_turns.RULES, *rules_of_content.RULES)


def candidates(look: Look) -> list[Find]:
    """Returns all mappings that the rules suggest for these columns, in the order of `RULES`."""
    finds = [find for rule in RULES for find in rule(look)]
    finds = [replace(f, score=min(f.score, 0.35)) if _is_sparse(f, look) else f for f in finds]
    strong = {f.kind for f in finds if f.score >= 0.9}
    # Then a text column is a rendering of the other columns (Alpaca's `text`) or a part of them (in a labelled text).
    if strong - {"text", "tabular"}:
        finds = [replace(f, score=min(f.score, 0.3)) if f.form in ("document", "table") else f for f in finds]
    return _in_order(finds)


def _is_sparse(find: Find, look: Look) -> bool:
    """Whether the mapping fits only a few rows: all columns that a sample needs are null in most rows."""
    needed = [look.columns[c] for r, c in find.fields if c in look.columns and r not in _MAY_LACK]
    return bool(needed) and all(len(c.there) * 2 < len(c.values) for c in needed)


_MAY_LACK = ("answer", "label", "system", "input", "history", "score")


def _in_order(found: list[Find]) -> list[Find]:
    """Lowers the score of forms that are part of a form with a high score, such as a chat in a preference."""
    kinds = {f.form for f in found if f.score >= 0.9}
    over = {
        "preference": ("messages", "sharegpt", "turns_list", "prompt_completion", "qa", "classification"),
        "kto": ("messages", "sharegpt", "turns_list", "prompt_completion", "classification"),
        "messages": ("prompt_completion", "qa", "classification", "media", "summarisation"),
        "tree": ("messages", "document", "prompt_completion"),
        "sharegpt": ("prompt_completion", "qa", "classification", "media", "summarisation"),
        "turns_list": ("prompt_completion", "classification"),
        "multiple_choice": ("prompt_completion", "qa", "classification", "summarisation"),
        "qa": ("prompt_completion", "classification", "summarisation"),
        "media": ("classification", "code", "prompt_completion", "qa", "summarisation"),
        "prompt_completion": ("classification", "code", "summarisation"),
        "instances": ("prompt_completion",),
        "summarisation": ("classification",),
        "code": ("classification",),
        "token_labels": ("classification",),
    }
    under = {form for top in kinds for form in over.get(top, ())}
    return [replace(f, score=min(f.score, 0.4)) if f.form in under else f for f in found]
