"""The table of what public datasets call their columns: each rule finds one kind of sample, or nothing.

Names are compared without case, blanks and punctuation. A rule looks at names first, then at types and content; a
column that is called `text` but holds links is no text. Scores: 0.9 and more where names and content agree, 0.7 where
one of them has to do, 0.5 for a guess. A kind that is complete speaks against those that are a part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pyarrow as pa

from choline_data.adapters.mapping.columns import Column, Look


@dataclass(frozen=True)
class Find:
    """What a rule found."""

    kind: str
    form: str
    fields: list[tuple[str, str]]
    score: float
    evidence: str


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

_CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns", "traj", "trajectory",
          "history", "mapping")  # fmt: skip
_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "pixelvalues", "imagebytes", "photo", "picture", "images",
           "media", "tif", "tiff", "gif", "bmp")  # fmt: skip
_IMAGE_LINKS = ("imageurl", "imgurl", "url", "imagepath", "imagefile", "filename", "image", "path", "images")
_AUDIOS = ("audio", "wav", "flac", "mp3", "ogg", "opus", "m4a", "speech", "media", "recording", "audiopath", "file",
           "filename", "path", "audiofile")  # fmt: skip
_VIDEOS = ("video", "mp4", "webm", "clip", "videopath", "videofile", "media", "path", "filename")
_CAPTIONS = ("caption", "captions", "text", "txt", "description", "recaption", "alttext", "blip2caption", "prompt",
             "sentencesraw", "llmgeneratedidea", "orgcaption", "texts", "markdown", "transcript", "transcripts")  # fmt: skip
_WORDS = ("text", "sentence", "transcription", "transcript", "normalizedtext", "rawtext", "rawtranscription", "txt",
          "caption", "phonetic", "description")  # fmt: skip
_CLASSES = ("label", "labels", "finelabel", "cls", "class", "category", "target", "humanlabels", "genres", "genre",
            "coarselabel", "digit", "intent")  # fmt: skip
_DOCUMENTS = ("text", "content", "rawcontent", "body", "document", "article", "pagecontent", "passage", "story",
              "markdown", "md", "html", "abstract", "paragraph", "sentence", "completion", "page", "plaintext",
              "rawtext", "fulltext", "articletext", "txt", "pages", "paragraphs")  # fmt: skip
_LABELLED = ("text", "sentence", "content", "review", "reviewbody", "reviewtext", "comment", "commenttext", "tweet",
             "utterance", "title", "headline", "query", "question", "description")  # fmt: skip
_LABELS = ("label", "labels", "category", "sentiment", "stars", "intent", "class", "finelabel", "coarselabel",
           "labeltext", "emotion", "rating", "topic", "verdict", "target")  # fmt: skip
_PROGRAMS = ("content", "code", "funccodestring", "wholefuncstring", "sourcecode", "program", "newcontents")
_CODE_SIGNS = ("path", "reponame", "repo", "maxstarsrepopath", "maxstarsreponame", "maxstarscount", "lang", "ext",
               "maxstarsrepolicenses", "oldcontents", "testlist", "funcname", "detectedlicenses", "blobid",
               "reposname", "filepath")  # fmt: skip
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


def candidates(look: Look) -> list[Find]:
    """Every reading of these columns, in the order of the table."""
    found = [find for rule in RULES for find in rule(look)]
    found = [replace(f, score=min(f.score, 0.35)) if _is_sparse(f, look) else f for f in found]
    strong = {f.kind for f in found if f.score >= 0.9}
    # A rendering beside the real thing (Alpaca's `text`), or a part of it (the words of a labelled text).
    if strong - {"text", "tabular"}:
        found = [replace(f, score=min(f.score, 0.3)) if f.form in ("document", "table") else f for f in found]
    return _in_order(found)


def _is_sparse(find: Find, look: Look) -> bool:
    """Whether the columns that make the sample are null in most rows: a key of a few, not the form of all."""
    needed = [look.columns[c] for r, c in find.fields if c in look.columns and r not in _MAY_LACK]
    return bool(needed) and all(len(c.there) * 2 < len(c.values) for c in needed)


_MAY_LACK = ("answer", "label", "system", "input", "history", "score")


def _in_order(found: list[Find]) -> list[Find]:
    """A kind that contains another comes first: preferences before the chat they are made of, and so on."""
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


def _media_beside(look: Look) -> list[tuple[str, str]]:
    name = look.find(("image", "images", "audio", "video", "media"), lambda c: bool(c.media))
    return [("media", name)] if name else []


def _preference(look: Look) -> Iterable[Find]:
    system = [("system", s) for s in [look.text(*_SYSTEMS)] if s]
    prompt = look.find(("prompt", "question", "instruction", "query", "conversations", "messages", "context", "input",
                        "history"), lambda c: c.is_text or bool(c.turns))  # fmt: skip
    before = [("prompt", prompt)] if prompt else []

    def reply(c: Column) -> bool:
        return c.is_text or bool(c.turns)

    for good, bad in (("chosen", "rejected"), ("chosenresponse", "rejectedresponse"), ("responsej", "responsek"),
                      ("chosenresponses", "rejectedresponses")):  # fmt: skip
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
    if chat:
        yield Find("preference", "kto", [("messages", chat), ("label", label)], 0.97, f"{label} judges {chat}")
    elif prompt and reply:
        fields = [("prompt", prompt), ("completion", reply), ("label", label)]
        yield Find("preference", "kto", fields, 0.97, f"{label} judges {reply}")


def _chat(look: Look) -> Iterable[Find]:
    system = [("system", s) for s in [look.text("system", "systemprompt")] if s]
    shaped = [n for key, n in look.plain.items() if look.columns[n].turns in ("messages", "sharegpt", "pairs")]
    named = look.find(_CHATS, lambda c: c.turns in ("messages", "sharegpt", "pairs"))
    texts = look.find(("texts",), lambda c: c.turns == "pairs")
    column = named or texts or next((n for n in shaped if n.lower() != "replies" and not look.columns[n].media), "")
    # A history goes before the reply of its own row.
    if column and not (column.lower() == "history" and look.text("response", "output")):
        shape = look.columns[column].turns
        form = "sharegpt" if shape == "sharegpt" else "messages"
        score = 0.97 if column in (named, texts) else 0.9
        if not _holds_talk(look.columns[column]):
            score = 0.6
        fields = [("messages", column), *system, *_media_beside(look)]
        yield Find("chat", form, fields, score, f"{column} holds turns")
        return
    listed = look.find(_CHATS, lambda c: c.turns == "strings" and not c.media)
    if listed:
        yield Find("chat", "turns_list", [("messages", listed)], 0.93, f"{listed} holds texts by turns")
    alone = look.find(("choices",), lambda c: c.turns == "replies")
    if alone:
        yield Find("chat", "messages", [("messages", alone)], 0.93, f"{alone} holds replies")


def _holds_talk(column: Column) -> bool:
    return column.name.lower() not in ("history",)


def _tree(look: Look) -> Iterable[Find]:
    def rooted(c: Column) -> bool:
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
        got = [look.find((n,), lambda c: not c.turns or c.turns == "strings") for n in names]
        if all(got) and not whole:
            several = got + [look.plain[k] for k in (f"{names[-1][:-1]}{n}" for n in range(3, 8))
                             if names[-1][-1:].isdigit() and k in look.plain and look.plain[k] not in got]  # fmt: skip
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


def _is_choices(column: Column) -> bool:
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
    ask, found = (
        look.text("query", "anchor"),
        look.find(("positive", "pos", "passage", "document", "positives")),
    )
    if ask and found and look.has("negative", "negatives", "neg", "negative1", "corpusid", "positive", "pos"):
        yield Find("qa", "qa", [("question", ask), ("answer", found)], 0.92, f"{found} belongs to {ask}")


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
    if alone and not look.has(*_DOCUMENTS, "canonicalsolution") and look.columns[alone].is_prose:
        yield Find("chat", "prompt_completion", [("prompt", alone)], 0.88, f"{alone} is a prompt without a reply")


def _is_reply(column: Column) -> bool:
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


_LANGUAGES = frozenset(
    ["ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "eo", "es", "et", "eu", "fa", "fi", "fr", "ga", "gl", "gu", "he", "hi", "hr", "hu", "hy", "id", "is", "it", "ja", "ka", "kk", "km", "kn", "ko", "lt", "lv", "mk", "ml", "mr", "ms", "mt", "nb", "ne", "nl", "nn", "no", "pa", "pl", "ps", "pt", "ro", "ru", "sh", "si", "sk", "sl", "sq", "sr", "sv", "ta", "te", "th", "tr", "uk", "ur", "uz", "vi", "xh", "yi", "zh", "zu", "af", "am", "as", "az", "be", "br", "cy", "fy", "gd", "ha", "ig", "ku", "ky", "li", "mg", "mn", "my", "oc", "or", "rw", "se", "tg", "tk", "tt", "ug", "wa", "yo"]  # noqa: E501 - one list
)  # fmt: skip


def _parallel(look: Look) -> Iterable[Find]:
    def translated(c: Column) -> bool:
        return c.all_of(lambda v: isinstance(v, dict) and len(v) > 1 and all(
            isinstance(x, str) or x is None for x in v.values()))  # fmt: skip

    struct = look.find(("translation",), translated)
    if struct:
        yield Find("text", "parallel", [("text", struct)], 0.96, f"{struct} holds languages")
        return
    coded = [n for n, c in look.columns.items() if n.lower() in _LANGUAGES and c.is_text and c.is_prose]
    pair = [look.text("src", "sourcetext"), look.text("tgt", "targettext")]
    columns = coded if len(coded) > 1 else pair if all(pair) else []
    if columns:
        yield Find("text", "parallel", [("text", c) for c in columns], 0.93, f"{' and '.join(columns)} say the same")


def _classification(look: Look) -> Iterable[Find]:
    def few(c: Column) -> bool:
        if c.classes or c.is_bool:
            return True
        if c.all_of(lambda v: isinstance(v, int)):
            return c.distinct <= max(20, len(c.there) // 2)
        return c.is_text and c.length < 60 and (c.distinct <= max(3, len(c.there) // 2) or c.name.lower() == "label")

    def graded(c: Column) -> bool:
        return few(c) or c.is_number

    for one, two, names in (
        ("premise", "hypothesis", _LABELS),
        ("sentence1", "sentence2", (*_LABELS, "score", "similarityscore")),
        ("question1", "question2", (*_LABELS, "isduplicate")),
        ("text1", "text2", (*_LABELS, "score")),
        ("question", "sentence", _LABELS),
    ):
        first, second, label = look.text(one), look.text(two), look.find(names, graded)
        if first and second and label:
            fields = [("text", first), ("text", second), ("label", label)]
            yield Find("classification", "classification", fields, 0.96, f"{label} judges {first} and {second}")
            return
    text, label = look.text(*_LABELLED), look.find(_LABELS, few)
    if not text or not label or text == label:
        return
    if look.columns[label].is_text and look.columns[label].length >= look.columns[text].length:
        return
    classed = label.lower() in (
        "label",
        "labels",
        "sentiment",
        "stars",
        "intent",
        "emotion",
        "fine_label",
        "class",
    )
    prose = look.columns[text].is_prose and look.columns[text].length > 12
    # A row of a table has a title and a category too; a document has a topic.
    score = 0.94 if classed and prose else 0.9 if classed and text.lower() in ("text", "sentence") else 0.45
    yield Find("classification", "classification", [("text", text), ("label", label)], score, f"{label} sorts {text}")


def _tokens(look: Look) -> Iterable[Find]:
    words = look.find(("tokens", "words"), lambda c: c.all_of(
        lambda v: isinstance(v, list) and all(isinstance(x, str) for x in v)))  # fmt: skip
    tags = look.find(("nertags", "postags", "chunktags", "tags", "labels", "upos", "ner", "pos"), lambda c: c.all_of(
        lambda v: isinstance(v, list)))  # fmt: skip
    if words and tags:
        yield Find("annotation", "token_labels", [("tokens", words), ("tags", tags)], 0.96, f"{tags} mark {words}")


def _ids(look: Look) -> Iterable[Find]:
    ids = look.find(("inputids", "tokenids", "tokens"), lambda c: c.all_of(
        lambda v: isinstance(v, list) and v != [] and all(isinstance(x, int) and 0 <= x < 1 << 20 for x in v)))  # fmt: skip
    if ids:
        why = f"{ids} holds token ids: they mean nothing without their tokenizer; decode them first"
        yield Find("tabular", "table", [], 0.9, why)


def _code(look: Look) -> Iterable[Find]:
    prompt, solution = look.text("prompt"), look.text("canonicalsolution")
    if prompt and solution:
        yield Find("text", "code", [("prompt", prompt), ("text", solution)], 0.96, f"{solution} completes {prompt}")
        return
    program = look.find(_PROGRAMS, _is_program)
    if not program:
        return
    told = look.text("text", "message", "docstring") if program.lower() in ("code", "new_contents") else ""
    before = [("prompt", told)] if told and (look.has("testlist") or look.has("oldcontents")) else []
    signs = [look.plain[s] for s in _CODE_SIGNS if s in look.plain]
    score = 0.95 if signs else 0.7
    yield Find(
        "text",
        "code",
        [*before, ("text", program)],
        score,
        f"{program} beside {', '.join(signs[:3]) or 'none'}",
    )


def _is_program(column: Column) -> bool:
    if not column.is_text or column.length < 20:
        return False
    marks = sum(any(m in v for m in "{}();=\n") for v in column.there)
    return marks * 2 > len(column.there)


def _media(look: Look) -> Iterable[Find]:
    for kind, names, words in (
        ("video", _VIDEOS, _CAPTIONS),
        ("audio", _AUDIOS, _WORDS),
        ("image", _IMAGES, _CAPTIONS),
    ):
        column = look.find(names, lambda c, kind=kind: c.media == kind) or next(  # type: ignore[misc]
            (n for n, c in look.columns.items() if c.media == kind and c.media_bytes), ""
        )
        score = 0.96
        if not column and kind == "image":
            column, score = _linked_image(look), 0.93
        if not column:
            continue
        text = look.find(words, lambda c, column=column: c.name != column and _is_caption(c))  # type: ignore[misc]
        inner = "" if text else _inside(look, words)
        label = look.find(_CLASSES, lambda c, column=column, text=text: c.name not in (column, text))  # type: ignore[misc]
        asked = look.text("question", "query") if look.find(("answer", "answers")) else ""
        if asked:
            score = 0.85
        fields = [("media", column)]
        if text or inner:
            fields.append(("text", text or inner))
        if label:
            fields.append(("label", label))
        yield Find(kind, "media", fields, score, f"{column} holds {kind}s")
        if asked:
            answer = look.find(("answer", "answers"))
            vqa = [("question", asked), ("answer", answer), ("media", column)]
            yield Find("qa", "qa", vqa, 0.96, f"{asked} asks about {column}")
        return


def _is_caption(column: Column) -> bool:
    return column.is_text or column.all_of(
        lambda v: isinstance(v, bytes) or (isinstance(v, list) and all(isinstance(x, str) or x is None for x in v))
    )


def _inside(look: Look, words: tuple[str, ...]) -> str:
    column = look.columns.get("json")
    if column is None or not column.all_of(lambda v: isinstance(v, dict)):
        return ""
    return next((f"json.{w}" for w in words if column.all_of(lambda v, w=w: isinstance(v.get(w), str))), "")  # type: ignore[misc]


_LINK_SIGNS = ("clip*", "similarity", "punsafe", "watermarkscore", "aesthetic*", "nsfw*", "recaption", "imageurl",
               "caption", "alttext", "width")  # fmt: skip


def _linked_image(look: Look) -> str:
    def link(c: Column) -> bool:
        return c.all_of(lambda v: isinstance(v, str) and v.startswith(("http://", "https://")))

    def items(c: Column) -> bool:
        return c.all_of(lambda v: isinstance(v, list)) and any(
            isinstance(x, str) and x.startswith("http") for v in c.there for x in v)  # fmt: skip

    listed = look.find(("images",), items)
    if listed:
        return listed
    named = look.find(("imageurl", "imgurl", "image"), link)
    return named or (look.find(("url",), link) if look.has(*_LINK_SIGNS) and look.has(*_CAPTIONS) else "")


def _annotation(look: Look) -> Iterable[Find]:
    score = [("score", s) for s in [look.find(("score",), lambda c: c.is_number)] if s]
    shape = [look.plain[n] for n in ("bbox", "segmentation", "keypoints") if n in look.plain]
    category = look.find(("categoryid", "category", "label"))
    if shape and category and look.has("imageid", "image"):
        fields = [("name", category), *(("value", s) for s in shape), *score]
        yield Find("annotation", "annotation", fields, 0.95, f"{', '.join(shape)} mark images")
        return
    if look.has("imageid") and look.text("caption") and not look.has(*_IMAGES, "url"):
        yield Find("annotation", "annotation", [("text", look.text("caption"))], 0.95, "captions of images elsewhere")
    tasks = look.find(("annotations", "completions"), lambda c: c.all_of(
        lambda v: isinstance(v, list) and all(isinstance(x, dict) and "result" in x for x in v)))  # fmt: skip
    if tasks:
        yield Find("annotation", "annotation", [("value", tasks)], 0.95, f"{tasks} hold results")


def _document(look: Look) -> Iterable[Find]:
    sections = [n for k, n in look.plain.items() if k.startswith("section") and k[7:].rstrip("ab").isdigit()]
    sections = [n for n in sections if look.columns[n].is_text or not look.columns[n].there]
    if len(sections) > 1:
        order = [n for n in look.columns if n in sections]
        yield Find("text", "document", [("text", n) for n in order], 0.93, f"{len(order)} sections")
        return
    named = look.find(_DOCUMENTS, lambda c: _is_document(c, look))
    if named:
        score = 0.94 if named.lower() in ("text", "content", "raw_content", "page", "body", "markdown") else 0.85
        yield Find("text", "document", [("text", named)], score, f"{named} holds text")
        return
    long = sorted((c for c in look.columns.values() if c.is_prose and c.length > 200), key=lambda c: -c.length)
    if long and (len(long) == 1 or long[0].length > 4 * long[1].length):
        yield Find("text", "document", [("text", long[0].name)], 0.5, f"{long[0].name} is the longest text")


def _is_document(column: Column, look: Look) -> bool:
    if column.turns == "strings" or column.all_of(lambda v: isinstance(v, list) and all(isinstance(x, str) for x in v)):
        return (
            column.name.lower() in ("pages", "paragraphs", "text", "text_by_page_gen", "sections") and not column.media
        )
    if not column.is_text:
        return False
    if column.name.lower() == "text":
        return column.is_prose or len(look.columns) <= 2 or column.length > 20
    return column.is_prose and column.length > 40 and not column.media


def _table(look: Look) -> Iterable[Find]:
    values = list(look.columns.values())
    short = [c for c in values if c.is_number or not c.there or (c.is_text and c.length <= 40)]
    mostly = len(short) * 2 >= len(values)
    yield Find("tabular", "table", [], 0.65 if mostly else 0.45, "rows of a table")


RULES: tuple[Callable[[Look], Iterable[Find]], ...] = (
    _preference, _kto, _chat, _tree, _choice, _reading, _retrieval, _instruction, _summary, _parallel, _tokens, _ids,
    _code, _media, _annotation, _classification, _document, _table,
)  # fmt: skip
