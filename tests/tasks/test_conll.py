"""Files of columns of all years give the same words and tags, and what is not clear is refused with its columns."""

import itertools

from helpers.glue_files import write
from hypothesis import HealthCheck, given, settings, strategies
import pytest

from bert_tpu.core import command
from bert_tpu.tasks import tagged

WORDS = [["New", "York", "is", "in", "Ohio"], ["Anna", "#1", "ran"], ["I", "saw", "Anna", "in", "Paris"]]
TAGS = [["B-LOC", "I-LOC", "O", "O", "B-LOC"], ["B-PER", "O", "O"], ["O", "O", "B-PER", "O", "B-LOC"]]
NUMBERED = [
    [(i, word, tag) for i, (word, tag) in enumerate(zip(*both, strict=True), start=1)]
    for both in zip(WORDS, TAGS, strict=True)
]


def lines(form, head="", tail=""):
    """Returns a file of the example. `form` has {i}, {word}, {tag}, {s} (number of the sentence) and {inner}."""
    parts = []
    for s, sentence in enumerate(NUMBERED):
        inner = ["B-PERderiv" if (s, i) == (0, 2) else "O" for i in range(1, 9)]
        rows = [
            form.format(i=i, word=word, tag=tag, s=s, inner=inner[i - 1], chunk="B-VP" if i % 3 else "I-NP")
            for i, word, tag in sentence
        ]
        parts.append(head + "\n".join(rows) + "\n")
    return tail + "\n".join(parts)


def read(tmp_path, content, word="", tag="", **others):
    write(tmp_path, {"train.txt": content, **{f"{split}.txt": text for split, text in others.items()}})
    names = {split: f"{split}.txt" for split in ("train", *others)}
    return tagged.from_files(str(tmp_path), names, word, tag)


U = "{i}\t{word}\t_\tX\t_\t_\t0\troot\t_\t{tag}"
FORMS = {
    "two columns": lines("{word} {tag}"),
    "CoNLL-2002": lines("{word} NN {tag}"),
    "CoNLL-2003": "-DOCSTART- -X- -X- O\n\n" + lines("{word} NNP {chunk} {tag}"),
    "CoNLL-2003 with phrases": lines("{word} NNP {chunk} {tag}") + "\n-DOCSTART- -X- O O\n\n-DOCSTART-\n",
    "German": lines("{word} {word}lemma NE {chunk} {tag}"),
    "reversed": lines("{tag}\t{word}"),
    "a document's line with a number": lines("{i}\t{word}\t{tag}") + "\n0\t-DOCSTART-\tO\n",
    "GermEval": lines("{i}\t{word}\t{tag}\tO", head="#\thttp://de.example.org/0\t[2009-10-17]\t\n"),
    "GermEval with a tab too many": lines("{i}\t{word}\t{tag}\tO", head="#\thttp://x\t[2009-10-17]\t\n").replace(
        "ran\tO\tO", "ran\tO\tO\t"
    ),
    "GermEval with inner entities": lines("{i}\t{word}\t{tag}\t{tag}"),
    "CoNLL-U": lines(U, head="# sent_id = 1\n# text = two words\n1-2\tNewYork\t_\t_\t_\t_\t_\t_\t_\t_\n"),
    "CoNLL-U Plus": lines("{i}\t{word}\t{tag}", tail="# global.columns = ID FORM NER\n"),
    "a name of the sentence": lines("doc{s} {word} {tag}"),
    "offsets and a comment": lines("{i}:{s}4 {word} {tag} checked"),
    "a first line of names": lines("{word}\t{tag}\t_", tail="Word\tTag\tNote\n"),
    "tab at the end": lines("{word}\t{tag}\t"),
    "spaces and tabs": lines("{word} NN {tag}\tO"),
    "a tab too many": lines("{word}\t{tag}").replace("ran\tO", "ran\tO\t"),
    "a mark at the end": lines("{word}\t{tag}") + "\ufeff\n",
    "spaces around": lines(" {word}   {tag} ").replace("\n\n", "\n \t \n"),
    "CR LF and a mark": "\ufeff" + lines("{word}\t{tag}").replace("\n", "\r\n"),
    "MultiCoNER": lines("{word} _ _ {tag}", head="# id 1f8c domain=train\n"),
    "MultiCoNER with tabs": lines("{word} _ _ {tag}", head="# id 1f8c\tdomain=train\n"),
    "MultiCoNER of two columns": lines("{word}\t{tag}", head="# id 1f8c\tdomain=train\n"),
    "a column of sentences": "sentence_id words labels\n" + lines("{s} {word} {tag}").replace("\n\n", "\n"),
    "numbers of sentence and word": lines(
        "{s}-{i}\t0-3\t{word}\t{tag}", head="#Text=some words\n", tail="#FORMAT=WebAnno TSV 3\n\n"
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_words_and_tags_are_found(tmp_path, name):
    part = read(tmp_path, FORMS[name])["train"]
    assert part.words == WORDS
    assert part.tags == TAGS
    own = (tmp_path / "train.txt").read_text(encoding="utf-8-sig").split("\n")
    for word, number in zip(itertools.chain(*WORDS), itertools.chain(*part.numbers), strict=True):
        assert word in own[number - 1]


def test_conll_2012(tmp_path):
    cells = [["(GPE*", "*)", "*", "*", "(GPE)"], ["(PERSON)", "*", "*"], ["*", "*", "(PERSON*)", "*", "(GPE)"]]
    rows = [
        "\n".join(
            f"bc/cctv  0  {i}  {w}  NN  *  -  -  -  spk  {c}" + "  *" * s + "  -"
            for i, (w, c) in enumerate(zip(*both, strict=True))
        )
        for s, both in enumerate(zip(WORDS, cells, strict=True))
    ]
    part = read(tmp_path, "#begin document (bc/cctv); part 000\n" + "\n\n".join(rows) + "\n\n#end document\n")["train"]
    assert part.words == WORDS
    assert part.tags == [[t.replace("LOC", "GPE").replace("PER", "PERSON") for t in sentence] for sentence in TAGS]
    assert part.skipped == 2
    with pytest.raises(command.UserError, match=r"line 2 has 2 columns, but CoNLL-2012 has 11 or more"):
        read(tmp_path, "#begin document x\na b\n")


def test_words_with_spaces_and_hashes(tmp_path):
    content = "New York\tB-LOC\n# \tO\n#tag\tO\na\u00a0b\tO\n\n#\tO\n#1\tB-LOC\n"
    part = read(tmp_path, content)["train"]
    assert part.words == [["New York", "#", "#tag", "a\u00a0b"], ["#", "#1"]]
    assert part.skipped == 0


def test_columns_may_be_named_or_numbered(tmp_path):
    content = lines("{word}\t{tag}\t{inner}", tail="Token\tNER\tInner\n")
    assert read(tmp_path, content, tag="NER")["train"].tags == TAGS
    assert read(tmp_path, content, tag="Inner")["train"].tags[0] == ["O", "B-PERderiv", "O", "O", "O"]
    assert read(tmp_path, content, word="1", tag="2")["train"].tags == TAGS
    upos = read(tmp_path, FORMS["CoNLL-U"].replace("B-", "").replace("I-", ""), tag="MISC")["train"]
    assert upos.tags[1] == ["PER", "O", "O"]
    for word, tag, complaint in (
        ("", "Ner", "has no column 'Ner': give --config.data.tag_column=1 to 3 or Token, NER, Inner"),
        ("4", "", "has no column '4': give --config.data.word_column=1 to 3"),
        ("0", "", "has no column '0'"),
        ("2", "2", "are both 2"),
    ):
        with pytest.raises(command.UserError) as error:
            read(tmp_path, content, word, tag)
        assert complaint in str(error.value)


def test_other_files_may_have_other_columns(tmp_path):
    train = lines("{word} NNP {chunk} {tag}")
    parts = read(tmp_path, train, validation=lines("{word} {tag}"), test=lines("{word}"))
    assert (parts["validation"].words, parts["validation"].tags) == (WORDS, TAGS)
    assert (parts["test"].words, parts["test"].tags) == (WORDS, None)
    for form in ("{word} NNP", "{word} NNP {chunk}"):
        mixed = lines(form).replace("Anna NNP", "Anna XY")
        part = read(tmp_path, train, test=mixed)["test"]
        assert (part.words, part.tags) == (WORDS, None)
        assert "no column has the tags of train" in part.note or form == "{word} NNP"
    numbered = read(tmp_path, FORMS["GermEval"], test=lines("{i}\t{word}", head="#\thttp://x\t[2009]\t\n"))["test"]
    assert (numbered.words, numbered.tags) == (WORDS, None)
    assert read(tmp_path, train, tag="4", word="1", test=lines("{word} NNP"))["test"].tags is None


def test_a_test_file_may_have_a_sign_for_no_tag(tmp_path):
    part = read(tmp_path, lines("{word} {tag}"), test=lines("{word} _"))["test"]
    assert (part.words, part.tags) == (WORDS, None)
    assert "column 2 is the same everywhere, and no tag of train" in part.note
    assert read(tmp_path, lines("{word} {tag}"), test=lines("{word} O"))["test"].tags is not None


def test_an_empty_cell_belongs_to_the_sentence_above(tmp_path):
    content = "Sentence #\tWord\tTag\nSentence: 1\ta\tO\n\tb\tB-X\nSentence: 2\tc\tO\n\td\tO\n"
    part = read(tmp_path, content)["train"]
    assert (part.words, part.tags) == ([["a", "b"], ["c", "d"]], [["O", "B-X"], ["O", "O"]])
    assert part.note.endswith("sentences in column 1 (Sentence #)")


def test_files_with_names_may_have_their_columns_in_another_order(tmp_path):
    own = lines("{word}\t{tag}", tail="Word\tTag\n")
    part = read(tmp_path, own, validation=lines("{tag}\t{word}", tail="Tag\tWord\n"))["validation"]
    assert (part.words, part.tags) == (WORDS, TAGS)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (lines("{word} {tag} {tag}"), "has the tags: 2 ('B-LOC', 'B-PER'), 3 ('B-LOC', 'B-PER'); give --config"),
        ("\n".join(f"{'w' * i} {'w' * (i % 60 + 1)}" for i in range(1, 100)), "which column has the tags"),
        (lines("{i}\t{word}\t{word}\tX\tX\t_\t0\troot\t_\t_"), "which column has the tags: 2 FORM ('I'"),
        ("sent words labels\n1 a O\n2 b B-X\n1 c O\n", "line 4 goes on with the sentence '1' after another one; sort"),
        ("T1\tLOC 0 4\tRome\nT2\tPER 5 8\tBen\n#1\tAnnotatorNotes T1\tor not\n", "has brat's annotations without"),
        ("R1\tIn Arg1:T1 Arg2:T2\nT1\tLOC 0 4;9 12\tRome\nA1\tBig T1\n", "has brat's annotations without"),
        (lines("{s}-{i}\t0-3\t{word}\t*\tLOC", tail="#FORMAT=WebAnno TSV 3.3\n\n\n"), "is WebAnno's TSV, whose tags"),
        ("Sentence #,Word,POS,Tag\n1,a,NN,O\n", "is a table divided by ','; write a word, a tab and its tag a line"),
        (lines('"{word}"\t"{tag}"'), "has quotes around tags, such as \"B-LOC\"; write it without quotes"),
        (lines("en:{word} {tag}"), "begins every word with 'en:'; take it out"),
        (lines("{word}\u00a0{tag}"), "has no tags, only one column; divide the columns by tabs, not by '\\xa0'"),
        (lines("{word}\tNER={tag}").replace("=O", "=O|SpaceAfter=No"), "before tags in column 2, such as 'NER=B-LOC'"),
        (lines("X{i}\t{word}"), "which column has the tags"),
        (lines("{s}-{i}\t{i}\t{tag}"), "which column has the words"),
        (lines("{word}\t{tag}").replace("ran\tO", "ran\t"), "line 9 has no tag in column 2; fix it"),
        (lines("{word}\t{tag}").replace("ran\tO", "\tO"), "line 9 has no word in column 1; fix it"),
        (lines("{word}\t{tag}").replace("ran\tO", "ran"), "line 9 has 1 columns, but most lines have 2"),
        (lines("{word}\t{tag}").replace("ran\tO", "# ran\tO\tx"), "line 9 has 3 columns"),
        (lines("{word}\t{tag}").replace("Anna\tB-PER\n#1", "#Anna\n#1", 1), "line 7 has 1 columns"),
    ],
)  # fmt: skip
def test_what_is_not_clear_is_refused(tmp_path, content, complaint):
    with pytest.raises(command.UserError) as error:
        read(tmp_path, content)
    assert complaint in str(error.value)


CELLS = strategies.sampled_from(
    ["O", "B-PER", "I-PER", "PER", "o", "B", "#", "1", "2-3", "_", "a", "b", "(A*", "*", "*)", ""]
)
ROW = strategies.tuples(CELLS, CELLS, CELLS, strategies.sampled_from(" \t"))
COLUMNS = strategies.lists(ROW.map(lambda row: row[3].join(row[:3]).strip(" ")), max_size=8).map("\n".join)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(COLUMNS | strategies.text("aBIO-PER#1_ \t\n"))
def test_every_word_and_tag_is_in_its_line(tmp_path, content):
    try:
        part = read(tmp_path, content)["train"]
    except command.UserError:
        return
    own = content.split("\n")
    for words, tags, numbers in zip(part.words, part.tags, part.numbers, strict=True):
        assert len(words) == len(tags) == len(numbers) > 0
        for word, tag, number in zip(words, tags, numbers, strict=True):
            assert word in own[number - 1]
            assert tag in own[number - 1] or "*" in own[number - 1]
    # No line is lost without a word about it.
    blank = sum(not line.strip(" \t") for line in own)
    assert blank + part.skipped + sum(map(len, part.words)) == len(own)


def test_a_word_that_begins_like_a_line_between_documents_is_a_word(tmp_path):
    part = read(tmp_path, "-DOCSTART- O\n\nthe O\n-DOCSTART-s B-X\nend O\n")["train"]
    assert part.words == [["the", "-DOCSTART-s", "end"]]
