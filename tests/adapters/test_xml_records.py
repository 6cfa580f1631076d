"""XML records: known kinds, files that pandas wrote, and hostile files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.text_records.xml_records import XmlRecords
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import Wishes, plan_source
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceTooLargeError

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
KINDS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "rss": ("<rss><channel><title>News</title><item><title>One</title><link>a</link></item><item><title>Zwei &amp; drei</title>"
            "<link>b</link></item></channel></rss>",
            [{"text": "One", "title": "One", "link": "a"}, {"text": "Zwei & drei", "title": "Zwei & drei", "link": "b"}]),
    "atom": ('<feed xmlns="http://www.w3.org/2005/Atom"><title>News</title><entry><title>One</title><summary>Short</summary>'
             '<content type="html">&lt;p&gt;Long</content></entry></feed>',
             [{"text": "<p>Long", "title": "One", "summary": "Short", "content": {"@type": "html", "#text": "<p>Long"}}]),
    "stack exchange": ('<posts>\n <row Id="1" Body="&lt;p&gt;Hi&lt;/p&gt;" />\n <row Id="2" Body="x" Score="5" />\n</posts>',
                       [{"Id": "1", "Body": "<p>Hi</p>"}, {"Id": "2", "Body": "x", "Score": "5"}]),
    "tmx": ('<tmx version="1.4"><header/><body><tu tuid="1"><tuv xml:lang="en"><seg>Yes</seg></tuv><tuv xml:lang="de"><seg>Ja'
            "</seg></tuv></tu></body></tmx>", [{"tuid": "1", "en": "Yes", "de": "Ja"}]),
    "mediawiki": ('<mediawiki xmlns="http://www.mediawiki.org/xml/"><siteinfo/><page><title>A</title><ns>0</ns><revision>'
                  '<timestamp>2024-01-05T00:00:00Z</timestamp><text bytes="5">Hello</text></revision></page></mediawiki>',
                  [{"title": "A", "ns": "0", "revision": {"timestamp": "2024-01-05T00:00:00Z"}, "text": "Hello",
                    "timestamp": "2024-01-05T00:00:00Z"}]),
    "xliff": ('<xliff version="1.2"><file><body><trans-unit id="a"><source>Yes</source><target>Ja</target></trans-unit></body>'
              "</file></xliff>", [{"id": "a", "source": "Yes", "target": "Ja"}]),
    "xliff 1.2 with languages": (
        '<xliff version="1.2"><file source-language="en" target-language="id"><body><trans-unit id="a"><source>One <g>x</g>'
        '</source><target state="final">Satu</target></trans-unit></body></file></xliff>',
        [{"unit.id": "a", "target.state": "final", "en": "One <g>x</g>", "id": "Satu"}]),
    "xliff 2.0": ('<xliff version="2.0" srcLang="en" trgLang="fr"><file><unit id="u"><segment id="1"><source>Yes</source>'
                  "<target>Oui</target></segment><segment><source>No</source></segment></unit></file></xliff>",
                  [{"id": "u", "segment.id": "1", "en": "Yes", "fr": "Oui"}, {"id": "u", "en": "No"}]),
    "others": ("<l:list xmlns:l='u'><l:thing><n>1</n><tag>x</tag><tag>y</tag></l:thing><l:thing><n>2</n></l:thing></l:list>",
               [{"n": "1", "tag": ["x", "y"]}, {"n": "2"}]),
    "mixed": ("<list><p>One <b>bold</b> &lt; word</p><p>Two</p></list>", [{"text": "One <b>bold</b> &lt; word"}, {"text": "Two"}]),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_record_has_its_values(name: str, write: Callable[..., Path], read: Callable[..., Any]) -> None:
    content, truth = KINDS[name]
    path = write("a.xml", HEAD + content)
    plan = plan_source(resolve(str(path)), "x", Wishes())
    (part,) = plan.parts
    assert isinstance(part.adapter, XmlRecords)
    assert read(part.adapter, path).rows == truth


def test_what_pandas_wrote_comes_back(tmp_path: Path, read: Callable[..., Any]) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"name": ["a", "é & <b>", "c"], "n": ["1", "2", "3"]})
    frame.to_xml(tmp_path / "a.xml", index=False, parser="etree")
    frame.to_xml(tmp_path / "b.xml", index=False, parser="etree", attr_cols=["name", "n"], encoding="iso-8859-1")
    for name in ("a.xml", "b.xml"):
        assert read(XmlRecords(), tmp_path / name).rows == frame.to_dict("records")


HOSTILE = {
    "a bomb": ('<!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><l><r>&b;</r><r>x</r></l>', SourceFormatError, "entity"),
    "another file": ('<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]><l><r>&a;</r><r/></l>', SourceFormatError, "entity"),
    "an unknown entity": ('<!DOCTYPE l SYSTEM "x.dtd"><l><r>a&nbsp;b</r><r/></l>', SourceFormatError, "No other file"),
    "a cut file": ("<l><r>1</r><r>2</r><r>", SourceDamagedError, "not XML"),
    "a wrong end": ("<l><r>1</r><r>2</r></x>", SourceDamagedError, "mismatched"),
    "deep nesting": ("<l><r/><r>" + "<a>" * 300, SourceTooLargeError, "200 levels"),
    "no record of a known kind": ('<tmx version="9"><body><pair>a</pair></body></tmx>', SourceFormatError, "has no <tu>"),
    "no records": ("<l><a/><b/></l>", SourceFormatError, "not records"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_xml_ends_in_an_error(name: str, write: Callable[..., Path], read: Callable[..., Any]) -> None:
    content, kind, why = HOSTILE[name]
    found = read(XmlRecords(), write("a.xml", HEAD + content))
    assert isinstance(found.error, kind)
    assert why in str(found.error)
    if name in ("a cut file", "a wrong end"):
        assert [row["text"] for row in found.rows] == ["1", "2"]


def test_a_record_above_the_limit_is_an_error(write: Callable[..., Path], read: Callable[..., Any]) -> None:
    path = write("a.xml", f"<l><r>1</r><r>{'x' * 500}</r></l>")
    assert isinstance(read(XmlRecords(max_row_bytes=100), path).error, SourceTooLargeError)


def test_an_article_of_pubmed_is_its_title_and_abstract(write: Callable[..., Path], read: Callable[..., Any]) -> None:
    article = ('<PubmedArticle><MedlineCitation><PMID Version="1">7</PMID><Article><ArticleTitle>On things.</ArticleTitle>{}'
               "</Article></MedlineCitation></PubmedArticle>")  # fmt: skip
    abstract = (
        '<Abstract><AbstractText Label="AIM">We look.</AbstractText><AbstractText>x<i>2</i></AbstractText></Abstract>'
    )
    path = write("a.xml", f"<PubmedArticleSet>{article.format(abstract)}{article.format('')}</PubmedArticleSet>")
    rows = read(XmlRecords(), path).rows
    assert [row["text"] for row in rows] == ["On things.\n\nAIM: We look.\n\nx<i>2</i>", "On things."]
    assert [(row["pmid"], row["title"]) for row in rows] == [("7", "On things.")] * 2


def test_xml_without_records_is_refused_by_name(write: Callable[..., Path]) -> None:
    path = write("a.xml", HEAD + "<inventory><owner>me</owner><item>1</item></inventory>")
    with pytest.raises(SourceFormatError, match=r"a\.xml is XML"):
        plan_source(resolve(str(path)), "x", Wishes())
    assert plan_source(resolve(str(path)), "x", Wishes(as_kind="text")).kind == "text"


class TestXmlRecords(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return XmlRecords("row")

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        rows = "".join(f'<row Id="{n}"><text>Line {n}</text></row>\n' for n in range(6000))
        return [source_file(write("a.xml", HEAD + "<rows>" + rows + "</rows>"))]
