"""Infers the meaning of a source's columns: candidates for its mapping, best first, each with its evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping as Pairs
from dataclasses import dataclass, replace

import pyarrow as pa

from choline_data.adapters.mapping import rules
from choline_data.adapters.mapping.forms import COMMON, FORMS
from choline_data.adapters.mapping.forms.sides import ISO
from choline_data.adapters.mapping.mapped_columns import Look
from choline_data.adapters.mapping.mapping_value import Mapping
from choline_data.errors import ChoiceNeededError, InvalidOptionError, MissingFieldError, UnknownFieldError
from choline_data.schema import KINDS

MARGIN = 0.2
PLAUSIBLE = 0.5
SURE_OVER_TABLE = 0.75
# Other common names for our kinds. `--as` also accepts these.
ALIASES = {
    "instruct": "chat",
    "instruction": "chat",
    "conversation": "chat",
    "document": "text",
    "code": "text",
    "dpo": "preference",
    "kto": "preference",
    "nli": "classification",
    "json": "tabular",
    "geo": "tabular",
    "table": "tabular",
}


@dataclass(frozen=True)
class Candidate:
    """A mapping that fits, its score (0 to 1), and the evidence: one line for each reason."""

    mapping: Mapping
    score: float
    evidence: tuple[str, ...]


def infer(
    batches: list[pa.RecordBatch],
    *,
    kind_hint: str = "",
    as_kind: str = "",
    overrides: Pairs[str, str] | None = None,
    name: str = "",
) -> list[Candidate]:
    """Returns the mappings that fit these rows, best first. Never empty, because any rows can be read as a table.

    `kind_hint` is the kind that the format suggests; it raises the score of this kind. `as_kind` and `overrides` (role →
    column, or several columns separated by commas) are the user's choices and take precedence. `name` is the source's name
    for messages.
    """
    look = Look(batches)
    candidates = [
        Candidate(Mapping(f.kind, f.form, tuple(f.fields)), f.score, (f.evidence,)) for f in rules.candidates(look)
    ]
    if kind_hint:
        hinted = ALIASES.get(kind_hint, kind_hint)
        candidates = [
            replace(c, score=min(1.0, c.score + 0.5), evidence=(*c.evidence, f"the format says {hinted}"))
            if c.mapping.kind == hinted
            else c
            for c in candidates
        ]
        if hinted == "text" and look.text("text") and not any(c.mapping.kind == "text" for c in candidates):
            # Even a file with a single word is a short document.
            fields = (("text", look.text("text")),)
            candidates.append(Candidate(Mapping("text", "document", fields), 0.6, ("the format says text",)))
    candidates.sort(key=lambda c: -c.score)
    if as_kind:
        candidates = _of_kind(candidates, look, as_kind, name)
    if overrides:
        candidates = _overridden(candidates, look, overrides, as_kind, name)
    return [replace(c, mapping=with_sides(c.mapping, look)) for c in candidates]


def unsure(candidates: list[Candidate]) -> bool:
    """Whether a candidate of another kind is plausible and scores within MARGIN of the best, or the rows are token ids."""
    best = candidates[0]
    if _is_tokens(best):
        return True
    rivals = [c for c in candidates[1:] if c.mapping.kind != best.mapping.kind]
    # Any rows can be read as a table. So there is no doubt if a table has the second-best score.
    if best.score >= SURE_OVER_TABLE:
        rivals = [c for c in rivals if c.mapping.form != "table"]
    return any(c.score >= PLAUSIBLE and best.score - c.score < MARGIN for c in rivals)


def _is_tokens(candidate: Candidate) -> bool:
    return candidate.mapping.form == "table" and "token ids" in "".join(candidate.evidence[:1])


def choice_needed(candidates: list[Candidate], name: str) -> ChoiceNeededError:
    """Returns the error that gives the evidence for the two best kinds and says how to choose. `name` is the file's name."""
    first = candidates[0]
    second = next((c for c in candidates[1:] if c.mapping.kind != first.mapping.kind), None)
    if _is_tokens(first) or second is None:
        return ChoiceNeededError(
            f"{name}: {'; '.join(first.evidence)}.",
            remedy=f"Add the text that it was made of, or keep the rows as they are: --as {first.mapping.kind}",
        )
    readings = [f"as {c.mapping.kind} ({c.score:.2f}: {'; '.join(c.evidence)})" for c in (first, second)]
    return ChoiceNeededError(
        f"{name} reads {' or '.join(readings)}.",
        remedy=f"Choose: --as {first.mapping.kind} | --as {second.mapping.kind}",
    )


def _of_kind(found: list[Candidate], look: Look, as_kind: str, name: str) -> list[Candidate]:
    kind = ALIASES.get(as_kind, as_kind)
    if kind not in KINDS:
        raise InvalidOptionError(f"No kind {as_kind!r}.", remedy=f"There are: {', '.join(KINDS)}.")
    fitting = [c for c in found if c.mapping.kind == kind]
    if fitting:
        return fitting
    evidence = (f"--as {as_kind}",)
    if kind == "tabular":
        return [Candidate(Mapping("tabular", "table"), 1.0, evidence)]
    texts = sorted((c for c in look.columns.values() if c.is_text), key=lambda c: -c.length)
    if kind == "text" and texts:
        return [Candidate(Mapping("text", "document", (("text", texts[0].name),)), 0.6, evidence)]
    # An empty mapping, which `overrides` may fill.
    return [Candidate(Mapping(kind, ""), 0.0, evidence)]


def _overridden(
    found: list[Candidate], look: Look, overrides: Pairs[str, str], as_kind: str, name: str
) -> list[Candidate]:
    known = sorted({role for form in FORMS.values() for role in (*form.required, *form.optional)} | set(COMMON))
    pairs: list[tuple[str, str]] = []
    for role, columns in overrides.items():
        if role not in known:
            raise UnknownFieldError(role, known, where="--map")
        for column in [columns] if columns in look.columns else columns.split(","):
            if column.strip().partition(".")[0] not in look.columns and column.strip() not in look.columns:
                raise MissingFieldError(column.strip(), name or "the source", look.columns)
            pairs.append((role, column.strip()))
    roles, used_columns = {r for r, _ in pairs}, {c for _, c in pairs}
    own = roles - set(COMMON)
    for candidate in found:
        form = FORMS.get(candidate.mapping.form)
        if form and own <= {*form.required, *form.optional}:
            other_fields = [(r, c) for r, c in candidate.mapping.fields if r not in roles and c not in used_columns]
            if set(form.required) <= roles | {r for r, _ in other_fields}:
                fields = (*pairs, *other_fields)
                return [Candidate(replace(candidate.mapping, fields=fields), 1.0, (*candidate.evidence, "--map"))]
    kinds = {
        form: kind for form, kind in rules.KIND_OF_FORM.items() if not as_kind or kind == ALIASES.get(as_kind, as_kind)
    }
    for form_name, kind in kinds.items():
        form = FORMS[form_name]
        if own <= {*form.required, *form.optional} and set(form.required) <= roles:
            return [Candidate(Mapping(kind, form_name, tuple(pairs)), 1.0, ("--map",))]
    raise MissingFieldError("/".join(sorted(own)), f"--map for {name or 'the source'}", known)


_LANGUAGE = re.compile(r"^[a-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,2}$")
_URL_NAMES = ("url", "sourceurl", "pageurl", "link", "warctargeturi", "u", "weburl")
_TIME_NAMES = ("date", "timestamp", "created", "time", "datetime", "createdat", "publicationdate", "publisheddate",
               "published", "warcdate", "createdtimestamp", "createdate", "added")  # fmt: skip
_LANGUAGE_NAMES = ("language", "lang", "langcode", "languagecode", "locale", "languagescript")
_LICENSE_NAMES = ("license", "licence", "licenseurl", "detectedlicense")


def with_sides(mapping: Mapping, look: Look) -> Mapping:
    """Returns the mapping with the side columns added whose values fit their names."""
    if mapping.form in ("table", ""):
        return mapping
    used, roles = {c for _, c in mapping.fields}, {r for r, _ in mapping.fields}
    sides = []
    for role, names in (
        ("license", _LICENSE_NAMES), ("language", _LANGUAGE_NAMES), ("url", _URL_NAMES), ("time", _TIME_NAMES)
    ):  # fmt: skip
        # In code datasets the column `language` names a programming language ("go", "c"). A pair has two languages.
        if role in roles or (role == "language" and mapping.form in ("code", "parallel")):
            continue
        column = look.find(names, lambda c, role=role: c.name not in used and _fits(role, c))  # type: ignore[misc]
        column = column or _within(look, role, names)
        if column:
            sides.append((role, column))
    return replace(mapping, fields=(*mapping.fields, *sides))


def _fits(role: str, column: object) -> bool:
    values = column.there  # type: ignore[attr-defined]
    if not values:
        return False
    if role == "time" and all(hasattr(v, "isoformat") and hasattr(v, "year") for v in values):
        return True
    return all(isinstance(v, str) for v in values) and all(_value_fits(role, v) for v in values if v)


def _value_fits(role: str, value: str) -> bool:
    if role == "url":
        return value.startswith(("http://", "https://"))
    if role == "language":
        return bool(_LANGUAGE.match(value))
    if role == "time":
        return bool(re.match(ISO, value))
    return len(value) < 200


def _within(look: Look, role: str, names: tuple[str, ...]) -> str:
    """Looks for the role one level inside a struct of metadata, such as `metadata.url`. Returns the dotted path or ""."""
    for top in ("metadata", "meta"):
        column = look.columns.get(top)
        if column is None or not column.all_of(lambda v: isinstance(v, dict)):
            continue
        for key in names:
            values = [v.get(key) for v in column.there]
            if all(isinstance(v, str) and _value_fits(role, v) for v in values):
                return f"{top}.{key}"
    return ""
