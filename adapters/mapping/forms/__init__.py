"""The forms. A form converts the source columns of its roles to schema columns.

=============== ============== ===================================================================================
form            kind           roles (* = optional; several columns of a role are joined or listed)
=============== ============== ===================================================================================
document        text           text
code            text           text, prompt* (comes before the text: HumanEval, MBPP)
parallel        text           text (two or more languages, or one struct of them)
messages        chat           messages
sharegpt        chat           messages ({from, value}), system*
turns_list      chat           messages (a list of strings, alternating user and assistant)
tree            chat           tree, or text, speaker and replies; uses the best-ranked path; `extra` keeps the tree
prompt_completion chat         prompt, completion, system*, input* (alpaca), history*
instances       chat           prompt, instances (a list of {input, output})
summarisation   chat           document, summary
qa              qa             question, answer*, context*
multiple_choice qa             question, choices, answer* or answer_from_1* (1 is the first), context*
preference      preference     prompt*, chosen, rejected, system*, choice* (which of the two was preferred)
kto             preference     messages, or prompt and completion; label
classification  classification text, label
token_labels    annotation     tokens, tags
annotation      annotation     text*, name*, value*, score*
media           image, audio,  media, text*, label*
                video
table           tabular        (none: everything is in `extra`)
=============== ============== ===================================================================================

Any form also accepts `media` (such as the images of a chat), `label`, and the side roles `url`, `language`, `license` and
`time`. `extra` omits a side column only if the schema column holds exactly the same value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import Reject, Shard, SourceChunk
from choline_data.adapters.mapping.extra import extra_json
from choline_data.adapters.mapping.forms import chats, questions, sides, texts
from choline_data.adapters.mapping.forms import media_forms as media
from choline_data.adapters.mapping.forms.fields import Fields, labels_of
from choline_data.adapters.mapping.mapping_value import Mapping, Normalised
from choline_data.columns.arrow_values import fill_nulls, numbers
from choline_data.errors import InvalidOptionError
from choline_data.schema import STORED


@dataclass(frozen=True)
class Form:
    """A form: the schema columns that it fills, its required and optional roles, and the function that fills the columns."""

    fills: tuple[str, ...]
    required: tuple[str, ...]
    optional: tuple[str, ...]
    make: Callable[[Fields], None]


COMMON = ("media", "label", *sides.ROLES)
FORMS: dict[str, Form] = {
    "document": Form(("text",), ("text",), (), texts.document),
    "code": Form(("text",), ("text",), ("prompt",), texts.code),
    "parallel": Form(("text",), ("text",), (), texts.parallel),
    "messages": Form(("turns",), ("messages",), ("system",), chats.messages),
    "sharegpt": Form(("turns",), ("messages",), ("system",), chats.messages),
    "turns_list": Form(("turns",), ("messages",), ("system",), chats.messages),
    "tree": Form(("turns",), (), ("tree", "text", "speaker", "replies"), chats.tree),
    "prompt_completion": Form(
        ("turns",), ("prompt",), ("completion", "system", "input", "history"), chats.prompt_completion
    ),
    "instances": Form(("turns",), ("prompt", "instances"), (), chats.instances),
    "summarisation": Form(("turns",), ("document", "summary"), (), chats.summarisation),
    "qa": Form(("turns",), ("question",), ("answer", "context"), questions.qa),
    "multiple_choice": Form(("turns", "label"), ("question", "choices"), ("answer", "answer_from_1", "context"), questions.choices),
    "preference": Form(
        ("turns",), ("chosen", "rejected"), ("prompt", "system", "choice"), chats.preference
    ),
    "kto": Form(("turns", "label"), ("label",), ("messages", "prompt", "completion", "system"), chats.kto),
    "classification": Form(("text", "label"), ("text", "label"), (), texts.document),
    "token_labels": Form(("text", "label"), ("tokens", "tags"), (), texts.token_labels),
    "annotation": Form(("text", "label"), (), ("text", "name", "value", "score"), texts.annotation),
    "media": Form(("text", "media"), ("media",), ("text",), media.media),
    "table": Form((), (), (), texts.table),
}  # fmt: skip


def form_named(name: str) -> Form:
    """Returns the form with this name. Otherwise raises InvalidOptionError, which lists the known forms."""
    if name not in FORMS:
        raise InvalidOptionError(f"No form {name!r}.", remedy=f"There are: {', '.join(FORMS)}.")
    return FORMS[name]


def columns(mapping: Mapping) -> tuple[str, ...]:
    """Returns the stored columns that a mapping can fill, in schema order. They are the same for every chunk."""
    form = form_named(mapping.form)
    columns = {"extra", *form.fills} | {role for role, _ in mapping.fields if role in COMMON}
    return tuple(name for name in STORED.names if name in columns)


def apply(mapping: Mapping, chunk: SourceChunk, shard: Shard) -> Normalised:
    """Returns the chunk's rows in schema columns. Rows that cannot become samples are rejects with a reason."""
    form = form_named(mapping.form)
    batch = chunk.batch
    fields = Fields(mapping.fields, batch, shard.origin)
    output = fields.made
    form.make(fields)
    if fields.has("label") and "label" not in output.columns:
        output.columns["label"] = labels_of(fields, batch)
    if fields.has("media") and "media" not in output.columns:
        media.attach(fields)
    sides.fill(fields)

    used = {column for _, column in mapping.fields} - output.kept - set(output.rest)
    left = [name for name in batch.schema.names if name not in used and name not in output.rest]
    output.columns["extra"] = extra_json(batch, left, output.rest)

    names = columns(mapping)
    arrays = []
    for name in names:
        kind = STORED.field(name).type
        array = output.columns.get(name)
        arrays.append(
            pa.nulls(batch.num_rows, kind) if array is None else array if array.type == kind else array.cast(kind)
        )
    out = pa.RecordBatch.from_arrays(arrays, schema=pa.schema([STORED.field(name) for name in names]))
    keep, rejects = _rejected(output.bad, chunk, shard)
    return Normalised(out if keep is None else out.filter(keep), chunk, keep, rejects)


def _rejected(
    bad: list[tuple[pa.Array, str]], chunk: SourceChunk, shard: Shard
) -> tuple[pa.Array | None, tuple[Reject, ...]]:
    reasons: dict[int, str] = {}
    for mask, reason in bad:
        flags = mask if isinstance(mask, np.ndarray) else numbers(fill_nulls(mask, True))
        for index in np.flatnonzero(flags):
            reasons.setdefault(int(index), reason)
    if not reasons:
        return None, ()
    keep = np.ones(chunk.batch.num_rows, bool)
    keep[list(reasons)] = False
    rejects = tuple(
        Reject(chunk.files[i].as_py() if chunk.files is not None else shard.origin, int(chunk.rows[i]), reason)
        for i, reason in sorted(reasons.items())
    )
    return pa.array(keep), rejects
