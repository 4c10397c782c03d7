"""Every scheme of tags gives the same entities, and tags of no scheme are refused or stand for single words."""

import random

import pytest

from bert_tpu.core import command
from bert_tpu.tasks import tag_schemes

PER, LOC = ("PER", 0, 2), ("LOC", 3, 4)


def find(*tags, wanted=""):
    counts = {tag: tag_schemes.Seen(tags.count(tag), f"train.txt line {tags.index(tag) + 1}") for tag in tags}
    return tag_schemes.find(counts, wanted)


@pytest.mark.parametrize(
    "tags",
    [
        "I-PER I-PER O I-LOC O",  # IOB1
        "B-PER I-PER O B-LOC O",  # IOB2
        "I-PER E-PER O E-LOC O",  # IOE2
        "B-PER E-PER O S-LOC O",  # IOBES
        "B-PER L-PER O U-LOC O",  # BILOU
        "B-PER E-PER O W-LOC O",  # BMEWO
        "B_PER I_PER O B_LOC O",
        "PER-B PER-I O LOC-B O",
        "PER_B PER_I O LOC_B O",
    ],
)
def test_entities_do_not_depend_on_the_scheme(tags):
    scheme = find(*tags.split())
    assert scheme.entities(tags.split()) == {PER, LOC}


def test_marks_alone_and_types_with_hyphens():
    assert find("B", "I", "O").entities(["B", "I", "O", "I", "B"]) == {("", 0, 2), ("", 3, 4), ("", 4, 5)}
    assert find("B", "M", "E", "S").entities(["B", "M", "E", "S", "B", "E"]) == {("", 0, 3), ("", 3, 4), ("", 4, 6)}
    assert find("B-a-b", "I-a-b", "O").entities(["B-a-b", "I-a-b"]) == {("a-b", 0, 2)}


@pytest.mark.parametrize("form", ["BIO", "BIOES", "BILOU"])
def test_schemes_of_random_entities_are_read_back(form):
    rng = random.Random(form)
    for _ in range(200):
        tags, wanted = [], set()
        while len(tags) < 12:
            kind, length = rng.choice(["PER", "LOC", None]), rng.randint(1, 4)
            if kind is None:
                tags += ["O"] * length
                continue
            wanted.add((kind, len(tags), len(tags) + length))
            only, last = {"BIO": "BI", "BIOES": "SE", "BILOU": "UL"}[form]
            marks = [only] if length == 1 else ["B", *"I" * (length - 2), last]
            tags += [f"{mark}-{kind}" for mark in marks]
        assert find(*tags, "B-PER", "I-PER", "O").entities(tags) == wanted


@pytest.mark.parametrize(
    "tags",
    ["DET NOUN VERB", "O PER LOC", "A B E S I V N R", "S N V", "en de O", "NN NN-S", "PER"],
)
def test_other_tags_are_each_word_s_own(tags):
    assert find(*tags.split()).form == "words"


def test_words_may_be_asked_for():
    assert find("B-X", "NOUN", wanted="words").form == "words"
    with pytest.raises(command.UserError, match=r"give --config\.data\.scheme=words"):
        find("B-X", wanted="iob")


@pytest.mark.parametrize(
    ("tags", "complaint"),
    [
        ("O B-PER o o", "line 3 has the tag 'o' (2 words), which does not mark an entity as 'B-PER' does; write O"),
        ("B-PER I-PER 0", "has the tag '0' (1 word), which does not mark an entity as 'B-PER' does; write O for"),
        ("B-PER I-PER O PER", "has the tag 'PER'"),
        ("B-PER b-per O", "has the tag 'b-per'"),
        ("B-PER I O", "has the tag 'I'"),
        ("B-PER B- O", "has the tag 'B-'"),
        ("B I o", "has the tag 'o'"),
        ("PER-B PER-I _", "has the tag '_'"),
        ("b-per i-per o", "whose mark is a small letter; write B-per, and O"),
        ("b i o", "whose mark is a small letter; write B, and O"),
        ("B-PER I-Per O", "has the tag 'I-Per' (1 word), and train.txt line 1 has the tag 'B-PER' (1 word), which d"),
        ("B-Caf\u00e9 I-Cafe\u0301 O", "which differ only by case or Unicode form; write them alike"),
        ("(A(B* * *))", "which nests entities"),
        ("B-PER B-LOC|B-ORG O", "has the tag 'B-LOC|B-ORG' (1 word), which marks several entities"),
        ("B-PER B-LOC,O O", "marks several entities"),
        ("PER-B PER-I LOC-B+ORG-B O", "marks several entities"),
        ("B-PER nil nil", "write O for a word outside"),
        ("PER LOC other other", "has the tag 'other' (2 words), more than any other; write O"),
    ],
)  # fmt: skip
def test_tags_of_two_forms_are_refused_by_name(tags, complaint):
    with pytest.raises(command.UserError) as error:
        find(*tags.split())
    assert complaint in str(error.value)


def test_brackets_are_entities():
    cells = ["(PER*", "*", "*)", "*", "(LOC)", "(ORG*)", "*"]
    tags = tag_schemes.from_brackets(cells)
    assert tags == ["B-PER", "I-PER", "I-PER", "O", "B-LOC", "B-ORG", "O"]
    for odd in (["(A(B*", "*))"], ["*)"], ["(A*", "(B)"], ["x"], [""]):
        assert tag_schemes.from_brackets(odd) is None


def test_signs_within_a_type_s_name_are_no_second_tag():
    tags = ("B-Gene|Protein", "I-Gene|Protein", "B-AND/OR", "B-R&D", "O")
    assert find(*tags).form == "prefix"
    assert find("B-PER", "B-LOC|B-ORG", "O", wanted="words").form == "words"
    with pytest.raises(command.UserError, match=r"dev line 1 .* marks several entities"):
        find("B-PER", "O").check({"B-PER|B-LOC": tag_schemes.Seen(1, "dev line 1")}, {})
