"""Rules for samples with turns: conversations, preferences, questions with answers, prompts with replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa

from choline_data.adapters.mapping.find import Find
from choline_data.adapters.mapping.mapped_columns import Look, MappedColumn
from choline_data.adapters.mapping.rules_of_content import DOCUMENTS

_CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns", "traj", "trajectory",
          "history", "mapping")  # fmt: skip
_PAIRS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("instruction", "instructions"), ("output", "response", "completion", "completions", "answer", "target",
                                       "targets", "demonstration", "generation")),
    (("prompt",), ("completion", "response", "answer", "output", "generation", "chosenresponse")),
    (("query",), ("response", "answer", "answers", "output")),
    (("problem",), ("generatedsolution", "solution", "answer")),
    (("question",), ("response", "answer", "responses", "modelanswer", "solution", "output", "answertext")),
    (("inputs", "input"), ("targets", "target", "output", "response")),
    (("source",), ("target",)),
    (("human", "user"), ("assistant", "bot", "gpt")),
    (("sqlprompt",), ("sql",)),
)  # fmt: skip
_SYSTEMS = ("system", "systemprompt", "definition", "systemmessage")
_RATINGS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def _media_of_turns(look: Look, column: str) -> list[tuple[str, str]]:
    inside = [("media", column)] if look.columns[column].turns_have_media else []
    return [*_media_beside(look), *inside]


def _media_beside(look: Look) -> list[tuple[str, str]]:
    name = look.find(("image", "images", "audio", "video", "media"), lambda c: bool(c.media))
    return [("media", name)] if name else []


def _preference(look: Look) -> Iterable[Find]:
    system = [("system", s) for s in [look.text(*_SYSTEMS)] if s]
    prompt = look.find(("prompt", "question", "instruction", "query", "conversations", "messages", "context", "input",
                        "history"), lambda c: c.is_text or bool(c.turns))  # fmt: skip
    before = [("prompt", prompt)] if prompt else []

    def reply(c: MappedColumn) -> bool:
        return c.is_text or bool(c.turns)

    for good, bad in (("chosen", "rejected"), ("chosenresponse", "rejectedresponse"), ("responsej", "responsek"),
                      ("chosenresponses", "rejectedresponses"), ("preferredoutput", "nonpreferredoutput")):  # fmt: skip
        one, two = look.find((good,), reply), look.find((bad,), reply)
        if one and two:
            fields = [*before, ("chosen", one), ("rejected", two), *system, *_media_beside(look)]
            yield Find("preference", "preference", fields, 0.98, f"{one} and {two} are replies")
            return
    for first, second, choices in (
        ("response0", "response1", ("betterresponseid", "saferresponseid")),
        ("response1", "response2", ("overallpreference", "preference")),
        ("humanrefa", "humanrefb", ("labels", "label")),
    ):
        one, two, choice = look.find((first,), reply), look.find((second,), reply), look.find(choices)
        if one and two and choice:
            fields = [*before, ("chosen", one), ("rejected", two), ("choice", choice), *system]
            yield Find("preference", "preference", fields, 0.96, f"{choice} says which of {one} and {two} is better")
            return


def _kto(look: Look) -> Iterable[Find]:
    label = look.find(("label", "ktotag", "desirable", "ktolabel"), lambda c: c.is_bool)
    if not label:
        return
    chat = look.find(_CHATS, lambda c: c.turns in ("messages", "sharegpt"))
    prompt, reply = look.text("prompt", "instruction"), look.text("completion", "response", "output")
    halves = [chat] if chat else _halves(look)
    if halves:
        fields = [*(("messages", n) for n in halves), ("label", label)]
        yield Find("preference", "kto", fields, 0.97, f"{label} judges {halves[-1]}")
    elif prompt and reply:
        fields = [("prompt", prompt), ("completion", reply), ("label", label)]
        yield Find("preference", "kto", fields, 0.97, f"{label} judges {reply}")


def _halves(look: Look) -> list[str]:
    """Returns the columns that hold the two halves of a conversation as turns, or []."""
    found = [look.find((n,), lambda c: c.turns in ("messages", "sharegpt")) for n in ("prompt", "completion")]
    return found if all(found) else []


def _chat(look: Look) -> Iterable[Find]:
    system = [("system", s) for s in [look.text("system", "systemprompt")] if s]
    shaped = [n for key, n in look.plain.items() if look.columns[n].turns in ("messages", "sharegpt", "pairs")]
    named = look.find(_CHATS, lambda c: c.turns in ("messages", "sharegpt", "pairs"))
    texts = look.find(("texts",), lambda c: c.turns == "pairs")
    halves = _halves(look)
    if halves:
        fields = [*(("messages", n) for n in halves), *system]
        yield Find("chat", "messages", fields, 0.95, f"{halves[1]} holds the turns after {halves[0]}")
        return
    unnamed = [n for n in shaped if n.lower() != "replies" and not look.columns[n].media and _are_said(look.columns[n])]
    column = named or texts or next(iter(unnamed), "")
    # A history belongs before the reply of the same row, so it is not the whole conversation.
    if column and not (column.lower() == "history" and look.text("response", "output")):
        shape = look.columns[column].turns
        form = "sharegpt" if shape == "sharegpt" else "messages"
        score = 0.97 if column in (named, texts) else 0.9
        if not _holds_talk(look.columns[column]):
            score = 0.6
        if len(unnamed) > 1 and column not in (named, texts):  # one of them may be the reply that was rejected
            score = 0.6
            yield Find("tabular", "table", [], score, f"{', '.join(unnamed[:4])} all hold turns")
        fields = [("messages", column), *system, *_media_of_turns(look, column)]
        yield Find("chat", form, fields, score, f"{column} holds turns")
        return
    listed = look.find(_CHATS, lambda c: c.turns == "strings" and not c.media)
    if listed:
        yield Find("chat", "turns_list", [("messages", listed)], 0.93, f"{listed} holds texts by turns")
    alone = look.find(("choices",), lambda c: c.turns == "replies")
    if alone:
        yield Find("chat", "messages", [("messages", alone)], 0.93, f"{alone} holds replies")


def _are_said(column: MappedColumn) -> bool:
    """Whether turns are sentences. Pairs of single words are edges of a graph or entries of a list, and no conversation."""
    if column.turns != "pairs":
        return True
    texts = [
        text
        for value in column.there
        if isinstance(value, list)
        for pair in value
        if isinstance(pair, list)
        for text in pair
    ]
    return not texts or 2 * sum(isinstance(text, str) and " " in text.strip() for text in texts) >= len(texts)


def _holds_talk(column: MappedColumn) -> bool:
    return column.name.lower() not in ("history",)


def _tree(look: Look) -> Iterable[Find]:
    def rooted(c: MappedColumn) -> bool:
        return c.all_of(lambda v: isinstance(v, dict) and "text" in v and "replies" in v)

    root = look.find(("prompt", "tree", "root"), rooted)
    if root:
        yield Find("chat", "tree", [("tree", root)], 0.98, f"{root} holds messages with replies")
        return
    if look.has("messageid") and look.has("parentid") and look.text("text"):
        replies = [("replies", r) for r in [look.find(("replies",))] if r]
        speaker = [("speaker", r) for r in [look.text("role")] if r]
        fields = [("text", look.text("text")), *speaker, *replies]
        yield Find("chat", "tree", fields, 0.96, "messages that name their parent")


def _exam(look: Look) -> Iterable[Find]:
    """Yields the questions of ARC and OpenBookQA, with their choices inside, and those of MMLU, whose files have no header."""
    answer = look.find(("answerkey", "answer", "label"))
    stem = look.find(("question",), lambda c: c.all_of(
        lambda v: isinstance(v, dict) and isinstance(v.get("stem"), str) and isinstance(v.get("choices"), list)))  # fmt: skip
    if stem:
        fields = [("question", f"{stem}.stem"), ("choices", f"{stem}.choices")]
        fields += [("answer", answer)] if answer else []
        yield Find("qa", "multiple_choice", fields, 0.97, f"{stem} holds a question and its choices")
    names = [f"column_{n}" for n in range(6)]
    if list(look.columns) != names:
        return
    key, question = look.columns[names[5]], look.columns[names[0]]
    if key.all_of(lambda v: v in ("A", "B", "C", "D")) and question.is_prose and question.length > 20:
        fields = [("question", names[0]), *(("choices", n) for n in names[1:5]), ("answer", names[5])]
        yield Find("qa", "multiple_choice", fields, 0.95, f"{names[5]} names one of four choices")


def _choice(look: Look) -> Iterable[Find]:
    question = look.text("question", "query", "ctx", "goal", "questionstem", "sentence", "problem", "input", "prompt",
                         "premise", "startphrase")  # fmt: skip
    if not question:
        return
    several: list[str] = []
    whole = look.find(("choices", "options", "endings", "answerchoices", "mcoptions", "choicestext"), _is_choices)
    for names in (("opa", "opb", "opc", "opd"), ("a", "b", "c", "d"), ("option1", "option2"), ("sol1", "sol2"),
                  ("choice1", "choice2"), ("ending0", "ending1", "ending2", "ending3"),
                  ("optiona", "optionb", "optionc", "optiond"), ("answera", "answerb", "answerc"),
                  ("answer1", "answer2"), ("correctanswer", "incorrectanswer1", "incorrectanswer2"),
                  ("correctanswer", "distractor1", "distractor2", "distractor3")):  # fmt: skip
        choice_columns = [look.find((n,), lambda c: not c.turns or c.turns == "strings") for n in names]
        if all(choice_columns) and not whole:
            several = choice_columns + [look.plain[k] for k in (f"{names[-1][:-1]}{n}" for n in range(3, 8))
                             if names[-1][-1:].isdigit() and k in look.plain and look.plain[k] not in choice_columns]  # fmt: skip
            break
    columns = [whole] if whole else several
    if not columns:
        return
    answer = look.find(("answer", "answerkey", "label", "answeridx", "cop", "gold", "correct", "answerindex",
                        "correctoption", "target", "labels", "solution"), lambda c: c.name not in columns)  # fmt: skip
    if several and "correct" in several[0].lower():
        answer = several[0]
    role = "answer"
    if answer and several and several[0].endswith("1"):
        values = look.columns[answer].there
        role = "answer_from_1" if values and all(str(v) not in ("0",) for v in values) else role
    context = look.text("context", "passage", "article", "support", "story")
    fields = [
        ("question", question),
        *(("choices", c) for c in columns),
        *([(role, answer)] if answer else []),
    ]
    if context and context != question:
        fields.append(("context", context))
    fields += _media_beside(look)
    yield Find("qa", "multiple_choice", fields, 0.97 if answer else 0.9, f"{', '.join(columns)} are the choices")


def _is_choices(column: MappedColumn) -> bool:
    def choices(v: object) -> bool:
        if isinstance(v, dict):
            return isinstance(v.get("text"), list) or all(isinstance(x, str) or x is None for x in v.values())
        return isinstance(v, list) and len(v) > 1 and all(isinstance(x, (str, int, float)) or (
            isinstance(x, dict) and "text" in x) for x in v)  # fmt: skip

    if column.is_text:
        return column.all_of(lambda v: v[:1] in "[{")
    return column.all_of(choices)


def _reading(look: Look) -> Iterable[Find]:
    question = look.text("question", "query")
    context = look.text("context", "passage", "article", "document", "story", "paragraph")
    answer = look.find(("answers", "answer", "finalanswer", "label", "answersspans", "shortanswer"))
    if question and context and (answer or look.has("isimpossible")):
        fields = [("question", question), ("context", context), *([("answer", answer)] if answer else [])]
        yield Find("qa", "qa", fields, 0.96, f"{question} asks about {context}")
        return
    nested = look.find(("answer", "answers"), lambda c: pa.types.is_nested(c.type) or c.all_of(_is_nested))
    if question and nested and not look.columns[question].turns:
        yield Find("qa", "qa", [("question", question), ("answer", nested)], 0.93, f"{nested} lists answers")
    best = look.text("bestanswer", "correctanswer")
    if question and best and not look.has("answer"):
        yield Find("qa", "qa", [("question", question), ("answer", best)], 0.93, f"{best} answers {question}")


def _is_nested(value: object) -> bool:
    return isinstance(value, (list, dict))


def _retrieval(look: Look) -> Iterable[Find]:
    ask, passage = (
        look.text("query", "anchor"),
        look.find(("positive", "pos", "passage", "document", "positives")),
    )
    if ask and passage and look.has("negative", "negatives", "neg", "negative1", "corpusid", "positive", "pos"):
        yield Find("qa", "qa", [("question", ask), ("answer", passage)], 0.92, f"{passage} belongs to {ask}")


def _instruction(look: Look) -> Iterable[Find]:
    nested = look.find(("instances",), lambda c: c.all_of(lambda v: isinstance(v, list)))
    ask = look.text("instruction")
    if nested and ask:
        fields = [("prompt", ask), ("instances", nested)]
        yield Find("chat", "instances", fields, 0.96, f"{nested} answer {ask}")
        return
    system = [("system", s) for s in [look.text(*_SYSTEMS)] if s]
    for asks, answers in _PAIRS:
        prompt = look.text(*asks)
        reply = look.find(answers, _is_reply)
        if not prompt or not reply or prompt == reply:
            continue
        fields = [
            ("prompt", prompt),
            ("completion", reply),
            *(s for s in system if s[1] not in (prompt, reply)),
        ]
        below = look.text("input", "context", "sqlcontext")
        if below and below not in (prompt, reply) and prompt.lower() in ("instruction", "sql_prompt"):
            fields.append(("input", below))
        history = look.find(("history",), lambda c: c.all_of(lambda v: isinstance(v, list)))
        if history:
            fields.append(("history", history))
        ratings = [look.plain[n] for n in _RATINGS if n in look.plain and look.columns[look.plain[n]].is_number]
        fields += [("label", r) for r in ratings] + _media_beside(look)
        yield Find("chat", "prompt_completion", fields, 0.94, f"{reply} answers {prompt}")
        return
    alone = look.text("prompt", "instruction", "inputs")
    if alone and not look.has(*DOCUMENTS, "canonicalsolution") and look.columns[alone].is_prose:
        yield Find("chat", "prompt_completion", [("prompt", alone)], 0.88, f"{alone} is a prompt without a reply")


def _is_reply(column: MappedColumn) -> bool:
    if column.is_text:
        return True
    listed = column.all_of(lambda v: isinstance(v, list))
    named = column.name.lower() in ("responses", "completions", "targets", "response")
    return (listed and named) or (column.is_number and column.name.lower() in ("answer", "target", "output"))


def _summary(look: Look) -> Iterable[Find]:
    document = look.text("document", "article", "dialogue", "report", "text", "articlebody", "source")
    summary = look.text("summary", "highlights", "abstract", "tldr", "summaries")
    if document and summary:
        long, short = look.columns[document], look.columns[summary]
        if short.length < long.length and long.is_prose and short.is_prose:
            fields = [("document", document), ("summary", summary)]
            yield Find("chat", "summarisation", fields, 0.92, f"{summary} is shorter than {document}")


RULES: tuple[Callable[[Look], Iterable[Find]], ...] = (
    _preference, _kto, _chat, _tree, _exam, _choice, _reading, _retrieval, _instruction, _summary,
)  # fmt: skip
