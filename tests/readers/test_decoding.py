"""Few invalid characters are replaced, counted and reported; a file in another encoding or with holes is refused."""

import json
import re

from helpers.text_sources import complaint, read
import pytest

from bert_tpu.core import numerals
from bert_tpu.readers import decoding, sources

GERMAN = "Das Mädchen möchte süße Äpfel. Über die Brücke geht ein Bär."
RUSSIAN = "Сегодня хорошая погода. Дети играют во дворе."
TEXTS = {
    "CP1252": GERMAN,
    "CP1251": RUSSIAN,
    "KOI8-R": RUSSIAN,
    "GB18030": "今天天气很好。孩子们在院子里玩耍。",
    "BIG5": "今天天氣很好。孩子們在院子裡玩耍。",
    "CP932": "今日は天気がよくて、子供たちが庭で遊んでいます。",
    "CP949": "오늘은 날씨가 좋아서 아이들이 마당에서 놀고 있습니다.",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_another_encoding_is_named_with_the_line_an_example_and_the_command(tmp_path, encoding):
    path = tmp_path / "a"
    for text_format, line in (("text", TEXTS[encoding]), ("jsonl", f'{{"text": "{TEXTS[encoding]}"}}')):
        path.write_bytes("\n".join([line] * 40).encode(encoding))
        message = complaint(path, text_format)
        assert " line " in message
        assert f"iconv -f {encoding} -t UTF-8" in message
        assert TEXTS[encoding][:3] in message


def test_an_encoding_without_a_good_guess_is_refused_too(tmp_path):
    (tmp_path / "a").write_bytes(("Zażółć gęślą jaźń. " * 20).encode("cp1250"))
    assert "iconv" in complaint(tmp_path / "a")


@pytest.mark.parametrize("text", [GERMAN, "Сегодня хорошая погода.", "今天天气很好。\n孩子们在院子里玩耍。 1"])
def test_utf16_and_utf32_are_named_with_and_without_a_mark(tmp_path, text):
    path = tmp_path / "a"
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        mark = "\ufeff".encode(encoding)
        for raw in (mark + text.encode(encoding), (text * 20).encode(encoding)):
            path.write_bytes(raw)
            for text_format in ("auto", "text"):
                assert f"iconv -f {encoding[:6].upper()}" in complaint(path, text_format)
    path.write_bytes("今日は天気がよくて".encode("iso2022_jp"))
    assert "iconv -f ISO-2022-JP" in complaint(path)


def test_a_mark_of_utf8_is_not_text_even_where_files_were_joined(tmp_path):
    for text in (
        "a\n\nb",
        '{"text": "a"}\n\ufeff{"text": "b"}',
        '<doc id="1">\na\n</doc>\n\ufeff<doc id="2">\nb\n</doc>',
    ):
        (tmp_path / "a").write_text("\ufeff" + text)
        assert [text.strip() for text in read(tmp_path / "a")[0]] == ["a", "b"]


def test_few_faults_are_replaced_counted_and_reported_with_the_file(tmp_path):
    for name, raw in (
        ("a", b"caf\xe9 \xe2\x82\nz\0ero \xef\xbf\xbd" + b" text" * 99),
        ("b", b"cut: \xe4\xb8"),
        ("c", b"a&nbsp;b &amp; c & d; &x;"),
    ):
        (tmp_path / name).write_bytes(raw)
    texts, counts = read(tmp_path / "?")
    assert texts[0].startswith("caf\ufffd \ufffd\nzero \ufffd")
    assert (counts.invalid_utf8, counts.zero_bytes, counts.lost_characters, counts.html_entities) == (3, 1, 1, 2)
    assert counts.repaired == {str(tmp_path / "a"): 3, str(tmp_path / "b"): 1}
    sums = decoding.add([counts, counts])
    _, sentence, lost, entities = decoding.report(sums)
    assert sentence == (
        f"6 invalid UTF-8 sequences replaced and 2 zero bytes dropped in {tmp_path / 'a'} (6), {tmp_path / 'b'} (2)"
    )
    assert lost.startswith("2 characters")
    assert entities.startswith("4 HTML entities")


def test_a_report_counts_in_english():
    names = (*decoding.SUSPECT, "letter_forms", "cut_documents", "invalid_utf8")
    counts = (sources.Counts(**dict.fromkeys(names, number), repaired={"a": 1}) for number in (1, 2))
    one, two = (decoding.report(decoding.add([count])) for count in counts)
    several = r"{} (HTML |invalid UTF-8 |line |long )?(\w+s|entities)\b"
    assert len(one) == len(two) == len(names)
    for singular, plural in zip(one, two, strict=True):
        assert re.match(several.format(2), plural), plural
        assert re.match("1 ", singular), singular
        assert not re.match(several.format(1), singular), singular
        assert not re.search(r" (are|were|have|make) ", singular.split(":")[0]), singular
    assert numerals.inflect(1, "[is|are] x[1] [0-9;]*m") == "is x[1] [0-9;]*m"


def test_of_many_files_the_worst_are_listed():
    counts = sources.Counts(repaired={f"{i:04}": 1 + (i == 7) for i in range(2000)}, invalid_utf8=2001)
    sums = decoding.add([counts])
    assert (len(sums["repaired"]), sums["repaired_files"]) == (1000, 2000)
    assert decoding.report(sums) == [
        "2,001 invalid UTF-8 sequences replaced in "
        "0007 (2), 0000 (1), 0001 (1), 0002 (1), 0003 (1) and 1,995 more files"
    ]


def test_text_that_was_decoded_wrongly_before_is_counted(tmp_path):
    good = f"{GERMAN} “It’s” NÃO, Ã, â, château, “Não” – été."
    (tmp_path / "a").write_text(good)
    assert read(tmp_path / "a")[1].garbled == 0
    (tmp_path / "a").write_text("Mädchen: “It’s” ß–é".encode().decode("cp1252", errors="ignore"))
    counts = read(tmp_path / "a")[1]
    assert counts.garbled == 6
    assert "ftfy" in decoding.report(decoding.add([counts]))[1]


def test_special_forms_of_letters_are_counted_and_named_unless_they_are_resolved(tmp_path):
    (tmp_path / "a").write_text("The ﬁrst oﬃcial é, ½ m² ﷺ. 𝐁old ﺍ 中。")
    counts = read(tmp_path / "a")[1]
    assert counts.letter_forms == 4
    sums = decoding.add([counts])
    assert "--normal_form NFKC" in decoding.report(sums)[1]
    assert len(decoding.report(sums | {"options": {"normal_form": "NFKC"}})) == 1


def test_tags_of_html_are_counted(tmp_path):
    (tmp_path / "a").write_text(json.dumps({"text": "<p class='x'>One.</p><BR/> a < b > c, <s> <person> <b"}) + "\n")
    counts = read(tmp_path / "a")[1]
    assert counts.html_tags == 3
    assert "HTML tags" in decoding.report(decoding.add([counts]))[1]


def test_line_breaks_that_are_spelled_are_counted(tmp_path):
    (tmp_path / "a").write_text(r"One.\nTwo!\r\nThree\n\nFour. In TeX \nu. is not \neq." + "\n")
    counts = read(tmp_path / "a")[1]
    assert counts.escaped_breaks == 3
    assert "spelled \\n" in decoding.report(decoding.add([counts]))[1]


def test_all_line_ends_of_json_strings_end_paragraphs(tmp_path):
    (tmp_path / "a").write_text(json.dumps({"text": "a\rb\r\nc\nd"}) + "\n")
    assert read(tmp_path / "a")[0] == ["a\nb\nc\nd"]


@pytest.mark.parametrize(
    ("good", "bad", "is_refused"), [(200, 11, False), (50, 11, True), (50, 10, False), (0, 10, False), (0, 11, True)]
)
def test_more_than_a_tenth_of_invalid_characters_and_more_than_ten_are_too_many(tmp_path, good, bad, is_refused):
    (tmp_path / "a").write_bytes("é ".encode() * good + b"x\xe9x " * bad)
    if is_refused:
        assert "line 1 is not UTF-8" in complaint(tmp_path / "a")
    else:
        assert read(tmp_path / "a")[1].invalid_utf8 == bad


def test_a_file_with_a_hole_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"A line of text.\n" * 5000 + bytes(5000) + b"A line of text.\n" * 99)
    assert "zero bytes" in complaint(tmp_path / "a")


def test_json_strings_lose_zeros_and_half_pairs_only(tmp_path):
    (tmp_path / "a").write_text(json.dumps({"text": "a\0b \ud83d c 🤗"}) + "\n")
    texts, counts = read(tmp_path / "a")
    assert texts == ["ab \ufffd c 🤗"]
    assert (counts.zero_bytes, counts.invalid_utf8, counts.half_pairs) == (1, 0, 1)
    sentence = decoding.report(decoding.add([counts]))[1]
    assert sentence.startswith("1 zero byte dropped and 1 half of a surrogate pair (such as \\ud83d) replaced in ")


def test_texts_of_data_sets_are_decoded_by_the_same_rules():
    from bert_tpu.core import command
    from bert_tpu.readers import formats

    counts = sources.Counts()
    assert list(formats.texts(["a\ud83db", b"c\xe9\0d"], "tfds:x", counts)) == [
        "a\ufffd\ufffd\ufffdb",
        None,
        "c\ufffdd",
        None,
    ]
    assert counts.invalid_utf8 == 4
    with pytest.raises(command.UserError, match="tfds:x document 2 is not UTF-8"):
        list(formats.texts([GERMAN.encode(), (GERMAN * 3).encode("latin-1")], "tfds:x", counts))
