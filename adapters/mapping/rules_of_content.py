"""Rules for content without turns: texts, labelled texts, code, images, audio, video, annotations, tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from choline_data.adapters.mapping.find import Find
from choline_data.adapters.mapping.mapped_columns import Look, MappedColumn
from choline_data.adapters.reading.media import is_companion

_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "pixelvalues", "imagebytes", "photo", "picture", "images",
           "media", "tif", "tiff", "gif", "bmp")  # fmt: skip
_AUDIOS = ("audio", "wav", "flac", "mp3", "ogg", "opus", "m4a", "speech", "media", "recording", "audiopath", "file",
           "filename", "path", "audiofile")  # fmt: skip
_VIDEOS = ("video", "mp4", "webm", "clip", "videopath", "videofile", "media", "path", "filename")
_CAPTIONS = ("caption", "captions", "text", "txt", "description", "recaption", "alttext", "blip2caption", "prompt",
             "sentencesraw", "llmgeneratedidea", "orgcaption", "texts", "markdown", "transcript", "transcripts", "rawtext",
             "comment", "sentence")  # fmt: skip
_WORDS = ("text", "sentence", "transcription", "transcript", "normalizedtext", "rawtext", "rawtranscription", "txt",
          "caption", "phonetic", "description")  # fmt: skip
_CLASSES = ("label", "labels", "finelabel", "cls", "class", "category", "target", "humanlabels", "genres", "genre",
            "coarselabel", "digit", "intent", "classname", "classlabel", "classid", "labelname", "labelid", "breed", "emotion",
            "diagnosis", "species")  # fmt: skip
DOCUMENTS = ("text", "content", "rawcontent", "body", "document", "article", "pagecontent", "passage", "story",
              "markdown", "md", "html", "abstract", "paragraph", "sentence", "completion", "page", "plaintext",
              "rawtext", "fulltext", "articletext", "txt", "pages", "paragraphs")  # fmt: skip
_LABELLED = ("text", "sentence", "content", "review", "reviewbody", "reviewtext", "comment", "commenttext", "tweet",
             "utterance", "title", "headline", "query", "question", "description")  # fmt: skip
_LABELS = ("label", "labels", "category", "sentiment", "stars", "intent", "class", "finelabel", "coarselabel",
           "labeltext", "emotion", "rating", "topic", "verdict", "target", "goldlabel")  # fmt: skip
_PROGRAMS = ("content", "code", "funccodestring", "wholefuncstring", "sourcecode", "program", "newcontents")
_CODE_SIGNS = ("path", "reponame", "repo", "maxstarsrepopath", "maxstarsreponame", "maxstarscount", "lang", "ext",
               "maxstarsrepolicenses", "oldcontents", "testlist", "funcname", "detectedlicenses", "blobid",
               "reposname", "filepath")  # fmt: skip

_LANGUAGES = frozenset(
    ["ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "eo", "es", "et", "eu", "fa", "fi", "fr", "ga", "gl", "gu", "he", "hi", "hr", "hu", "hy", "id", "is", "it", "ja", "ka", "kk", "km", "kn", "ko", "lt", "lv", "mk", "ml", "mr", "ms", "mt", "nb", "ne", "nl", "nn", "no", "pa", "pl", "ps", "pt", "ro", "ru", "sh", "si", "sk", "sl", "sq", "sr", "sv", "ta", "te", "th", "tr", "uk", "ur", "uz", "vi", "xh", "yi", "zh", "zu", "af", "am", "as", "az", "be", "br", "cy", "fy", "gd", "ha", "ig", "ku", "ky", "li", "mg", "mn", "my", "oc", "or", "rw", "se", "tg", "tk", "tt", "ug", "wa", "yo"]  # noqa: E501 - one list
)  # fmt: skip


_REGION = re.compile(r"[a-z]{2}[-_](?:[A-Z]{2}|[A-Z][a-z]{3})|[a-z]{2}-[a-z]{2}|[A-Z]{2}-[A-Z]{2}")


def is_language(name: str) -> bool:
    """Whether a column has the name of a language, such as `de` or `pt-BR`."""
    return name.lower() in _LANGUAGES or (_REGION.fullmatch(name) is not None and name[:2].lower() in _LANGUAGES)


def _parallel(look: Look) -> Iterable[Find]:
    def translated(c: MappedColumn) -> bool:
        return c.all_of(lambda v: isinstance(v, dict) and len(v) > 1 and all(
            isinstance(x, str) or x is None for x in v.values()))  # fmt: skip

    struct = look.find(("translation",), translated)
    if struct:
        yield Find("text", "parallel", [("text", struct)], 0.96, f"{struct} holds languages")
        return
    coded = [n for n, c in look.columns.items() if is_language(n) and c.is_text and c.is_prose]
    pairs = [
        [look.text("src", "sourcetext"), look.text("tgt", "targettext")],
        [look.text("source"), look.text("translation")],
    ]
    columns = coded if len(coded) > 1 else next((pair for pair in pairs if all(pair)), [])
    if columns:
        yield Find("text", "parallel", [("text", c) for c in columns], 0.93, f"{' and '.join(columns)} say the same")


def _are_labels(value: Any) -> bool:
    """Returns whether the value is a list of labels in the form of our own schema, as an export has them."""
    return isinstance(value, list) and all(
        isinstance(v, dict) and v.keys() == {"name", "value", "score"} for v in value
    )


def _classification(look: Look) -> Iterable[Find]:
    def few(c: MappedColumn) -> bool:
        if c.classes or c.is_bool or c.all_of(_are_labels):
            return True
        if c.all_of(lambda v: isinstance(v, int)):
            return c.distinct <= max(20, len(c.there) // 2)
        return c.is_text and c.length < 60 and (c.distinct <= max(3, len(c.there) // 2) or c.name.lower() == "label")

    def graded(c: MappedColumn) -> bool:
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
    # A low score otherwise: table rows also have a title and a category, and documents have a topic.
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
        why = f"{ids} holds token ids, which mean nothing without their tokenizer"
        yield Find("tabular", "table", [], 0.9, why)


def _code(look: Look) -> Iterable[Find]:
    prompt, solution = look.text("prompt"), look.text("canonicalsolution")
    if prompt and solution:
        yield Find("text", "code", [("prompt", prompt), ("text", solution)], 0.96, f"{solution} completes {prompt}")
        return
    program = look.find(_PROGRAMS, _is_program)
    if not program:
        return
    statement = look.text("text", "message", "docstring") if program.lower() in ("code", "new_contents") else ""
    before = [("prompt", statement)] if statement and (look.has("testlist") or look.has("oldcontents")) else []
    signs = [look.plain[s] for s in _CODE_SIGNS if s in look.plain]
    score = 0.95 if signs else 0.7
    yield Find(
        "text",
        "code",
        [*before, ("text", program)],
        score,
        f"{program} beside {', '.join(signs[:3]) or 'none'}",
    )


def _is_program(column: MappedColumn) -> bool:
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
        question = look.text("question", "query") if look.find(("answer", "answers")) else ""
        if question:
            score = 0.85
        more = [
            n for n, c in look.columns.items() if n != column and is_companion(n) and c.media == kind and c.media_bytes
        ]
        fields = [("media", column), *(("media", name) for name in more)]
        if text or inner:
            fields.append(("text", text or inner))
        if label:
            fields.append(("label", label))
        yield Find(kind, "media", fields, score, f"{column} holds {kind}s")
        if question:
            answer = look.find(("answer", "answers"))
            vqa = [("question", question), ("answer", answer), ("media", column)]
            yield Find("qa", "qa", vqa, 0.96, f"{question} asks about {column}")
        return


def _is_caption(column: MappedColumn) -> bool:
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
    def link(c: MappedColumn) -> bool:
        return c.all_of(lambda v: isinstance(v, str) and v.startswith(("http://", "https://")))

    def items(c: MappedColumn) -> bool:
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
    post = _post(look)
    if post:
        yield Find("text", "document", [("text", n) for n in post], 0.95, f"{post[-1]} is the text of a post")
        return
    named = look.find(DOCUMENTS, lambda c: _is_document(c, look))
    if named:
        score = 0.94 if named.lower() in ("text", "content", "raw_content", "page", "body", "markdown") else 0.85
        yield Find("text", "document", [("text", named)], score, f"{named} holds text")
        return
    long = sorted((c for c in look.columns.values() if c.is_prose and c.length > 200), key=lambda c: -c.length)
    if long and (len(long) == 1 or long[0].length > 4 * long[1].length):
        yield Find("text", "document", [("text", long[0].name)], 0.5, f"{long[0].name} is the longest text")


def _post(look: Look) -> list[str]:
    """Returns the columns of a post of Reddit or Stack Exchange, whose texts may be short."""
    if look.has("subreddit"):
        body = look.text("selftext", "body")
        title = look.text("title") if body and look.columns[body].name.lower() == "selftext" else ""
        return [n for n in (title, body) if n] if body else []
    body = look.text("body") if look.has("posttypeid") else look.text("text") if look.has("postid") else ""
    return [body] if body else []


def _is_document(column: MappedColumn, look: Look) -> bool:
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
    _parallel, _tokens, _ids, _code, _media, _annotation, _classification, _document, _table,
)  # fmt: skip
