"""Texts that a program has written in another form are counted, and ordinary ones are not."""

import time

import pytest

from bert_tpu.tasks import text_notes


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("None", "of nothing but None, NaN or the like"),
        (" #NAME? ", "of nothing but None"),
        ("[deleted]", "of nothing but None"),
        ("['after', \"boat's\"]", "in the form of a list"),
        ("('a', 'b')", "in the form of a list"),
        ("b'after boat'", "in the form of a list"),
        ("{'text': 'a', 'n': 1}", "in the form of a list"),
        ("array(['a', 'b'], dtype=object)", "in the form of a list"),
        ("[object Object]", "in the form of a list"),
        ("a_x000D_\nb", "with _x000D_, Excel's mark for the end of a line"),
        ("a" * 32_767, "of 32,767 characters, where Excel cuts a cell"),
        ("it\u00e2\u20ac\u2122s", "with letters that were decoded as another encoding"),
        ("<p>a</p>", "with HTML"),
        ("It ended.\\nThen", "with \\n written out"),
        ("[CLS] a [SEP]", "with [CLS], [SEP], [PAD] or ##"),
        ("a play ##ing", "with [CLS], [SEP], [PAD] or ##"),
        ("nothing", None),
        ("none of them", None),
        ("[1] See 'there'", None),
        ("b'gosh, he said", None),
        ('(a "joke") it was', None),
        ("{a: b}", None),
        ("## Title ##4", None),
        ("ch\u00e2teau, S\u00c3O PAULO < 5 & 6", None),
    ],
)
def test_a_text_that_a_program_has_changed_is_counted(text, note):
    texts = ["ordinary", text, text]
    found = list(text_notes.notes("train.csv", "line", [2, 3, 4], texts))
    if note is None:
        assert not found
    else:
        (sentence,) = found
        assert f"train.csv: 2 texts {note}" in sentence
        assert "(line 3 first: " in sentence
        assert sentence.startswith("warning: ") == ("HTML" not in note)


def test_a_few_of_many_texts_are_no_warning():
    texts = ["n/a", *["ordinary"] * 200]
    (sentence,) = text_notes.notes("train.csv", "line", range(2, 203), texts)
    assert sentence.startswith("train.csv: 1 text of nothing but")


def test_long_texts_cost_no_time():
    for text in ("{'a' " * 100_000 + "}", "['" + "'," * 100_000 + "]", "array(" * 100_000 + ")"):
        start = time.process_time()
        list(text_notes.notes("train.csv", "line", [2], [text]))
        assert time.process_time() - start < 5
