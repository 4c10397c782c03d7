"""Documents are split where a reader would end a sentence, and no character is lost."""

import subprocess
import sys
import time

from helpers import sentence_pairs
import hypothesis
from hypothesis import strategies
import pytest

from bert_tpu.core import command
from bert_tpu.corpus import sentences
from bert_tpu.readers import formats


@pytest.mark.parametrize(
    "parts",
    [
        ["Dr. Smith met Mr. J. R. Brown at 5 p.m. on Jan. 3.", "They left."],
        ['"Stop!" he cried.', '"I will not."'],
        ["“Where is it?” she asked.", "He did not know."],
        ["He lived in the U.S.", "He moved to Washington, D.C. in 1990."],
        ["The U.S. Government said so.", "It was 3.5 percent."],
        ["See Fig. 3 and pp. 12-14, e.g. the table.", "Then go on."],
        ["J. K. Rowling wrote it.", "E. M. Forster did not."],
        ["Well... I don't know.", "Maybe... not."],
        ["Prof. A. Lee et al. found this.", "Ph.D. students helped."],
    ],
)
def test_abbreviations_initials_and_quotes_end_no_sentence(parts):
    assert sentences.split(" ".join(parts)) == parts


@pytest.mark.parametrize(
    "parts",
    [
        ["孩子们数了七个苹果。", "他问：“你去哪里？”", "真的吗？", "好！"],
        ["彼は「行くよ。」と言った。", "『本。』を読む。", "「ええ。そうよ。」", "彼女は笑った！"],
        ["राम घर गया।", "क्या तुम आओगे?", "हाँ!"],
        ["ذهب الولد إلى المدرسة.", "هل رأيته؟", "نعم!"],
        ["لڑکا اسکول گیا۔", "ہاں۔"],
        ["เด็กๆ ไปโรงเรียนตอนเช้า", "พวกเขากลับบ้านตอนเย็น", "วันนี้อากาศดีมาก"],
        ["ကလေးတွေ ကျောင်းသွားတယ်။", "သူတို့ ပြန်လာတယ်။"],
        ["ក្មេងៗទៅសាលារៀន។", "ពួកគេត្រឡប់មកវិញ៕"],
        ["ང་བོད་ནས་ཡིན།", "ཁྱོད་རང་གང་ནས་ཡིན།"],
        ["Երեխաները գնացին դպրոց։", "Նրանք վերադարձան։"],
        ["ልጆቹ ወደ ትምህርት ቤት ሄዱ።", "ተመለሱ።"],
        ["Πού πας;", "Πάω σπίτι."],
        ["রাম বাড়ি গেল।", "তুমি কি আসবে?"],
        ["아이들은 학교에 갔다.", "정말?"],
        ["А. С. Пушкин родился в 1799 г. в Москве.", "Да!"],
    ],
)
def test_each_script_has_its_own_marks(parts):
    between = "" if parts[0][-1] in "。」" else " "
    assert sentences.split(between.join(parts)) == parts
    assert sentences.split("A title\n" + between.join(parts) * 2, "en") == ["A title", *split_twice(parts, between)]


def split_twice(parts, between):
    """The sentences of two copies of `parts` in one line; those without a space between them may be one."""
    return sentences.split(between.join(parts) * 2)


def test_a_language_chooses_the_rules_for_its_own_script_alone():
    german = ["Der Dr. Müller kam am 3. Januar 2020.", "König Ludwig XIV. regierte lange."]
    assert sentences.split(" ".join(german)) != german
    assert sentences.split(" ".join(german), "de") == german
    for language, parts in (
        ("es", ["—¡Vete! —gritó él.", "Llegó a las 5 p. m. ayer.", "Comió solo."]),
        ("fr", ["M. Dupont est arrivé à 5 h. du matin.", "Il dormait."]),
        ("cs", ["V 19. století bylo mnoho válek.", "Pak byl mír."]),
        ("ru", ["«Стой!» — крикнул он.", "Это т. е. другое дело.", "Он ушёл."]),
        ("ru", ["лодка утонула у мельницы.", "никто не видел."]),
        ("de", ["das boot sank am ufer.", "niemand sah es."]),  # without capitals
    ):
        assert sentences.split(" ".join(parts), language) == parts
    english = ["Mr. Li (李) met J. K. Rowling at 5 p.m. on Jan. 3.", "They left."]
    for language in ("", "en", "zh", "th"):
        assert sentences.split(" ".join(english), language) == english
    assert sentences.split("使用 Python 和 TensorFlow。BERT 很好。") == ["使用 Python 和 TensorFlow。", "BERT 很好。"]


def test_a_missing_library_for_thai_is_named_and_other_text_does_not_need_it(monkeypatch):
    find_spec = command.importlib.util.find_spec
    monkeypatch.setattr(
        command.importlib.util, "find_spec", lambda name: None if name == "pycrfsuite" else find_spec(name)
    )
    sentences._splitter.cache_clear()
    text = f"Bangkok is a city.\nกรุงเทพมหานคร เป็นเมือง\n{'It is large. ' * 30}It grows."
    assert sentences.split(text) == [*text.split("\n")[:2], *["It is large."] * 30, "It grows."]
    for fails in (lambda: sentences.split("กรุงเทพมหานคร เป็นเมือง"), lambda: sentences.check("th")):
        with pytest.raises(command.UserError, match=r"Thai text needs pycrfsuite: .*\[thai\]"):
            fails()


def test_a_long_line_is_not_cut_within_a_sentence(monkeypatch):
    monkeypatch.setattr(sentences, "MAX_CHARS", 60)
    for line in ("我们看见一条船。", "The old boat sank near the mill. ", "राम घर गया था। "):
        assert sentences.split(line * 40) == [line.strip()] * 40


def test_a_newline_ends_a_sentence_and_blank_lines_are_none():
    assert sentences.split("A heading\nand the text\n\n \t\n of it.\n") == [
        "A heading",
        "and the text",
        "of it.",
    ]


@hypothesis.settings(deadline=None)
@hypothesis.given(
    document=strategies.text(strategies.characters(codec="utf-8"), max_size=200)
    | strategies.text("aA. 中。」「とを्क।ก็។།Яß?\t", max_size=200)
    | strategies.text("aA. !?\"'“”()…\n\t1", max_size=200),
    language=strategies.sampled_from(["", "en", "de", "fr", "ja", "zh", "hi", "xx"]),
)
def test_no_character_is_lost_and_no_sentence_is_blank(document, language):
    parts = sentences.split(document, language)
    assert "".join("".join(parts).split()) == "".join(document.split())
    assert all(sentence.strip() == sentence != "" for sentence in parts)
    assert not any("\n" in sentence for sentence in parts)


@pytest.mark.parametrize("run", ["?!", "x", '."', "word ", "汉", "“", "。」", "ก", "।"])
def test_a_run_of_marks_takes_time_in_proportion_to_its_length(run):
    text = run * ((150_000 if run.isascii() else 60_000) // len(run))
    start = time.process_time()
    parts = sentences.split(text)
    assert time.process_time() - start < 8  # quadratic time would be 25 s and more
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")


def test_pieces_keep_every_character_and_are_cut_after_spaces():
    line = "some words of a line " * 10
    cut = formats.pieces(line, 17)
    assert "".join(cut) == line
    assert all(len(piece) <= 17 and piece.endswith(" ") for piece in cut)
    assert formats.pieces("x" * 40, 17) == ["x" * 17, "x" * 17, "x" * 6]


def test_importing_the_module_loads_no_model():
    program = (
        "import sys; from bert_tpu.corpus import sentences; sys.exit(bool({'nupunkt', 'sentencex'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("language", sentence_pairs.PAIRS)
def test_the_rules_of_a_language_are_better_than_english_ones(language):
    """docs/benchmarks.md has the counts of this test."""
    pairs = [text.split("|") for text in sentence_pairs.PAIRS[language]]
    right = sum(sentences.split(" ".join(pair), language) == pair for pair in pairs)
    english = sentences._splitter("Latin", "")
    assert right >= sum(english(" ".join(pair)) == pair for pair in pairs)
    assert right > 0.3 * len(pairs)
