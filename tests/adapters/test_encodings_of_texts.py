"""Poems, reviews, names and addresses in old encodings: the text is right, or `add` asks. It is never mojibake."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.adapters.test_encodings import FORMATS, in_format, read_texts, writable

from choline_data.errors import ChoiceNeededError

# kind: (lines, the encodings in which such texts are kept)
TEXTS = {
    "a poem in German": (
        ["Über allen Gipfeln ist Ruh,", "In allen Wipfeln spürest du", "Kaum einen Hauch;", "Die Vögelein schweigen im Walde."],
        "latin-1 cp1252 cp850 mac-roman utf-16 utf-8-sig",
    ),
    "a poem in Russian": (
        ["Я помню чудное мгновенье:", "Передо мной явилась ты,", "Как мимолётное виденье,", "Как гений чистой красоты."],
        "cp1251 koi8-r cp866 iso8859-5 mac-cyrillic utf-16-le",
    ),
    "a poem in Polish": (
        ["Litwo! Ojczyzno moja! ty jesteś jak zdrowie;", "Ile cię trzeba cenić, ten tylko się dowie,", "Kto cię stracił."],
        "cp1250 iso8859-2 cp852",
    ),
    "a poem in Japanese": (
        ["古池や蛙飛びこむ水の音", "閑さや岩にしみ入る蝉の声", "夏草や兵どもが夢の跡"],
        "shift_jis euc_jp iso2022_jp",
    ),
    "a poem in Chinese": (["床前明月光", "疑是地上霜", "舉頭望明月", "低頭思故鄉"], "big5 gb18030 utf-16-be"),
    "reviews in French": (
        ["Très déçu : l'écran est arrivé cassé.", "Génial, ça marche à merveille !", "Le goût est… étrange, mais pas mauvais."],
        "latin-1 cp1252 iso8859-15 mac-roman cp850",
    ),
    "reviews in Turkish": (
        ["Ürün çok kötü çıktı, iade ettim.", "Kargo hızlıydı, teşekkürler.", "Fiyatına göre iyi, ama şarjı çabuk bitiyor."],
        "cp1254 iso8859-9",
    ),
    "reviews in Greek": (["Πολύ καλό προϊόν, το συνιστώ.", "Ήρθε σπασμένο, δεν άξιζε τα χρήματα."], "cp1253 iso8859-7"),
    "reviews in Korean": (["배송이 정말 빨라요. 감사합니다.", "색상이 사진과 달라서 반품했어요."], "euc_kr cp949"),
    "reviews in Arabic": (["المنتج ممتاز والتوصيل سريع", "وصل مكسورا ولم يرد أحد على رسالتي"], "cp1256 iso8859-6"),
    "reviews in Thai": (["สินค้าดีมาก ส่งเร็ว", "กล่องบุบแต่ของข้างในไม่เสียหาย"], "cp874 tis-620"),
    "reviews in Vietnamese": (["Sản phẩm rất tốt, giao hàng nhanh.", "Hàng bị vỡ khi đến nơi."], "utf-8-sig utf-16"),
    "names in Czech": (["Jiří Novák", "Šárka Dvořáková", "Žofie Kučerová", "Tomáš Černý"], "cp1250 iso8859-2"),
    "names in Spanish": (["José Ángel Núñez", "Begoña Ibáñez", "Íñigo Muñoz", "Mª Concepción Peña"], "latin-1 cp1252"),
    "names in Hebrew": (["יעל כהן", "דוד לוי", "רחל מזרחי", "משה פרץ"], "cp1255 iso8859-8"),
    "names in Latvian": (["Jānis Bērziņš", "Līga Kalniņa", "Ģirts Ozoliņš"], "cp1257 iso8859-13"),
    "addresses in Swedish": (["Östra Ågatan 29, 753 22 Uppsala", "Bäckvägen 4, 611 35 Nyköping"], "latin-1 cp1252"),
    "addresses in Ukrainian": (
        ["вул. Хрещатик, 36, Київ", "просп. Свободи, 28, Львів", "вул. Єврейська, 12, Одеса"],
        "cp1251 koi8-u",
    ),
    "addresses in Hungarian": (["Budapest, Erzsébet körút 9–11.", "Győr, Fő tér 2.", "Szeged, Dóm tér 16."], "cp1250 iso8859-2"),
}  # fmt: skip
CASES = [(kind, encoding) for kind, (_, encodings) in TEXTS.items() for encoding in encodings.split()]


@pytest.mark.parametrize("times", [1, 40], ids=["short", "long"])
@pytest.mark.parametrize(("kind", "encoding"), CASES)
def test_a_text_in_an_old_encoding_is_right_or_asked(kind: str, encoding: str, times: int, tmp_path: Path) -> None:
    lines = writable(TEXTS[kind][0], encoding) * times
    assert lines
    for form, adapter in FORMATS.items():
        path = tmp_path / f"a.{form}"
        path.write_bytes(in_format(lines, form).encode(encoding))
        try:
            found = read_texts(adapter, path)
        except ChoiceNeededError:  # `test_few_bytes_are_a_question_with_the_text_in_each_encoding` tests the question
            continue
        assert found == (lines if form != "txt" else [in_format(lines, form)]), form
