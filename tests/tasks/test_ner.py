"""CoNLL's files become rows with labels at first tokens, and tags are scored by whole entities."""

import itertools
import json
import random

from helpers.glue_files import write
from helpers.token_row_cases import LETTERS, VOCABULARY, split
from hypothesis import HealthCheck, given, settings, strategies
import numpy as np
import pytest
import transformers

from bert_tpu.core import command
from bert_tpu.data import token_rows
from bert_tpu.tasks import ner
from bert_tpu.tokenizer import vocab

CONLL = """-DOCSTART- -X- -X- O

ab NNP B-NP B-PER
c NNP I-NP I-PER
. . O O

d\tNN\tB-NP\tB-LOC

-DOCSTART- -X- -X- O

e NN B-NP O
"""
PLAIN = "ab\nc\n.\n\n\nd\n"
TAGS = ("B-LOC", "B-PER", "I-PER", "O")


def load(dir, *, train="train.txt", validation="", test="", max_length=16, **more):
    return ner.load(
        dir=str(dir),
        train=train,
        validation=validation,
        test=test,
        max_length=max_length,
        vocabulary=VOCABULARY,
        **more,
    )


def outputs(task, name, tags):
    """Returns outputs that predict the next of `tags` at each word's first token, and B-LOC at all other tokens."""
    rows = task.splits[name]
    pieces = np.array(VOCABULARY.pieces)[rows.ids]
    firsts = [i for i, piece in enumerate(pieces) if piece not in ("[CLS]", "[SEP]") and not piece.startswith("##")]
    values = np.full((len(rows.ids), len(task.labels)), -1, np.float32)
    values[:, task.labels.index("B-LOC")] = 0
    for place, tag in zip(firsts, tags, strict=True):
        values[place, task.labels.index(tag)] = 1
    return values


def test_conll_s_columns_are_rows_with_a_label_at_each_first_token(tmp_path):
    write(tmp_path, {"train.txt": CONLL, "dev.txt": CONLL.replace("\n", "\r\n"), "test.txt": PLAIN})
    task = load(tmp_path, validation="dev.txt", test="test.txt")
    assert (task.head, task.labels, task.eval_splits) == ("tag", TAGS, ("validation",))
    pieces = [[VOCABULARY.pieces[i] for i in ids] for ids, _ in split(task.splits["train"])]
    wanted = [["[CLS]", "a", "##b", "c", ".", "[SEP]"], ["[CLS]", "d", "[SEP]"], ["[CLS]", "e", "[SEP]"]]
    assert pieces == wanted
    assert task.splits["train"].labels.tolist() == [-1, 1, -1, 2, 3, -1, -1, 0, -1, -1, 3, -1]
    for a, b in zip(task.splits["train"], task.splits["validation"], strict=True):
        assert (a == b).all()
    assert [[VOCABULARY.pieces[i] for i in ids] for ids, _ in split(task.splits["test"])] == wanted[:2]
    assert set(task.splits["test"].labels.tolist()) == {token_rows.IGNORED}
    assert [array.dtype for array in task.splits["train"]] == [np.uint16, np.uint8, np.int64, np.int32, np.int64]


@pytest.mark.parametrize("max_length", [5, 8, 16])
def test_tokens_and_their_words_are_those_of_transformers(tmp_path, max_length):
    random.seed(max_length)
    words = [*LETTERS, "abc", "a.b", "[.", "unknown", "\u200b", "a\u00a0b"]
    sentences = [random.choices(words, k=random.randint(1, 12)) for _ in range(60)]
    tags = [random.choices(TAGS, k=len(sentence)) for sentence in sentences]
    texts = ["".join(f"{w} {t}\n" for w, t in zip(*both, strict=True)) for both in zip(sentences, tags, strict=True)]
    write(tmp_path, {"train.txt": "\n".join(texts)})
    task = load(tmp_path, max_length=max_length)
    vocab.save(VOCABULARY, tmp_path)
    fast = transformers.AutoTokenizer.from_pretrained(tmp_path)
    wanted = fast(sentences, is_split_into_words=True, truncation=True, max_length=max_length)
    assert [ids for ids, _ in split(task.splits["train"])] == wanted["input_ids"]
    labels = []
    for row, own in enumerate(tags):
        for before, word in itertools.pairwise([None, *wanted.word_ids(row)]):
            labels.append(token_rows.IGNORED if word in (None, before) else task.labels.index(own[word]))
    assert task.splits["train"].labels.tolist() == labels


def test_an_entity_counts_only_whole_and_of_its_kind(tmp_path):
    write(tmp_path, {"train.txt": CONLL, "test.txt": PLAIN})
    task = load(tmp_path, validation="train.txt", test="test.txt")
    # Two entities: "ab c" of PER and "d" of LOC.
    for tags, correct, predicted in (
        (["B-PER", "I-PER", "O", "B-LOC", "O"], 2, 2),
        (["B-PER", "O", "O", "B-LOC", "O"], 1, 2),  # too short
        (["B-PER", "I-PER", "I-PER", "B-LOC", "B-LOC"], 1, 3),  # too long, and one that is none
        (["B-PER", "I-PER", "O", "B-PER", "O"], 1, 2),  # another kind
        (["B-PER", "B-PER", "O", "O", "O"], 0, 2),
        (["O", "O", "O", "O", "O"], 0, 0),
    ):
        precision, recall = correct / predicted if predicted else 0, correct / 2
        f1 = 2 * precision * recall / (precision + recall) if correct else 0
        assert task.score("validation", outputs(task, "validation", tags)) == pytest.approx(
            {"f1": f1, "precision": precision, "recall": recall}
        )
    assert list(task.score("validation", outputs(task, "validation", tags))) == ["f1", "precision", "recall"]


def test_draws_of_sentences_are_scores_of_those_sentences(tmp_path):
    """A split of a hundred sentences of two kinds: each draw's score is that of a mixture of the two."""
    write(tmp_path, {"train.txt": CONLL, "both.txt": "a B-LOC\n\nb B-PER\n\n" * 50})
    task = load(tmp_path, validation="both.txt")
    right = outputs(task, "validation", ["B-LOC", "B-PER"] * 50)
    half = outputs(task, "validation", ["B-LOC", "O"] * 50)
    drawn = task.bootstrap("validation", np.stack([right, half]))
    assert list(drawn) == ["f1", "precision", "recall"]
    for name, values in drawn.items():
        assert (values[:, 0] == 1).all(), name
    recall = drawn["recall"][:, 1]
    assert recall.mean() == pytest.approx(0.5, abs=0.02)
    assert recall.std() == pytest.approx(0.05, rel=0.15)  # binomial, of 100
    np.testing.assert_allclose(drawn["f1"][:, 1], 2 * recall / (1 + recall))


def test_words_that_are_cut_off_or_have_no_token_count_as_outside(tmp_path):
    write(tmp_path, {"train.txt": CONLL, "long.txt": "a B-LOC\n\u200b O\nbc B-LOC\nd B-LOC\ne O\nf B-LOC\n"})
    task = load(tmp_path, validation="long.txt", max_length=5)  # [CLS] a b ##c [SEP]: d, e and f are cut
    assert task.splits["validation"].labels.tolist() == [-1, 0, 0, -1, -1]
    values = outputs(task, "validation", ["B-LOC", "B-LOC"])
    assert task.score("validation", values) == pytest.approx({"f1": 2 / 3, "precision": 1, "recall": 1 / 2})
    task.write("validation", values, tmp_path / "out")
    assert (tmp_path / "out" / "validation.txt").read_text() == "a B-LOC\n\u200b O\nbc B-LOC\nd O\ne O\nf O\n\n"


def test_predictions_read_again_are_what_was_predicted(tmp_path):
    write(tmp_path, {"train.txt": CONLL, "test.txt": PLAIN})
    task = load(tmp_path, test="test.txt")
    task.write("test", outputs(task, "test", ["B-PER", "I-PER", "O", "B-LOC"]), tmp_path / "out")
    assert (tmp_path / "out" / "test.txt").read_text() == "ab B-PER\nc I-PER\n. O\n\nd B-LOC\n\n"
    write(tmp_path, {"test.txt": (tmp_path / "out" / "test.txt").read_text()})
    again = load(tmp_path, test="test.txt")
    assert again.eval_splits == ("test",)
    assert again.score("test", outputs(again, "test", ["B-PER", "I-PER", "O", "B-LOC"]))["f1"] == 1


def test_tfds_gives_the_same_as_files(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    sentences = [("ab c .", "B-PER I-PER O"), ("d", "B-LOC"), ("e", "O")]

    class SmallNer(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            names = ["O", "B-PER", "I-PER", "B-LOC"]
            features = {
                "tokens": tfds.features.Sequence(tfds.features.Text()),
                "pos": tfds.features.Sequence(tfds.features.ClassLabel(names=["NN"])),
                "ner": tfds.features.Sequence(tfds.features.ClassLabel(names=names)),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(), "dev": self._generate_examples()}

        def _generate_examples(self):
            for i, (words, tags) in enumerate(sentences):
                yield i, {"tokens": words.split(), "pos": ["NN"] * len(words.split()), "ner": tags.split()}

    SmallNer(data_dir=tmp_path).download_and_prepare(file_format="tfrecord")
    write(tmp_path, {"train.txt": CONLL})
    name = f"tfds:small_ner?data_dir={tmp_path}"
    task, files = load(name, train="train", validation="dev"), load(tmp_path)
    assert task.labels == files.labels
    for a, b in zip(task.splits["validation"], files.splits["train"], strict=True):
        assert (a == b).all()
    with pytest.raises(command.UserError, match="no split 'valid' but train, dev"):
        load(name, train="train", validation="valid")


def scored(task, tags, name="validation"):
    return task.score(name, outputs(task, name, tags))


def test_tags_that_only_scored_splits_have_are_missed_and_named(tmp_path):
    train = "a B-LOC\nb I-LOC\nc O\n"
    write(tmp_path, {"train.txt": train, "dev.txt": "a B-LOC\nb B-MISC\n\nc S-LOC\n"})
    task = load(tmp_path, validation="dev.txt")
    assert task.labels == ("B-LOC", "I-LOC", "O")
    # "c" is found although train has no S-; "b" cannot be.
    assert scored(task, ["B-LOC", "O", "B-LOC"]) == pytest.approx({"f1": 4 / 5, "precision": 1, "recall": 2 / 3})
    assert scored(task, ["B-LOC", "B-LOC", "B-LOC"])["precision"] == pytest.approx(2 / 3)
    assert task.splits["validation"].labels.tolist() == [-1, 0, -1, -1, -1, -1, -1]
    write(tmp_path, {"test.txt": "a O\nb O\n"})
    notes = load(tmp_path, test="test.txt").notes
    assert "test: every tag is O, so that its scores mean nothing" in notes
    assert "validation: train lacks B-MISC 1; a model that cannot predict these tags is wrong there" in task.notes
    assert "validation: train lacks S-LOC 1; entities are compared by their words and type" in task.notes


def test_parts_of_speech_are_scored_by_word(tmp_path):
    write(
        tmp_path, {"train.txt": "a DET\nb NOUN\nc VERB\n\na DET\nd VERB\n", "dev.txt": "a DET\nb NOUN\nc NOUN\ne X\n"}
    )
    task = load(tmp_path, validation="dev.txt", max_length=5)
    values = np.zeros((len(task.splits["validation"].ids), 3), np.float32)
    values[[1, 2, 3], [0, 1, 2]] = 1  # DET NOUN VERB; "e" is cut
    assert task.score("validation", values) == pytest.approx({"accuracy": 1 / 2, "macro_f1": (1 + 2 / 3 + 0 + 0) / 4})
    drawn = task.bootstrap("validation", np.stack([values, values]))
    assert {name: array.shape for name, array in drawn.items()} == {"accuracy": (1000, 2), "macro_f1": (1000, 2)}
    task.write("validation", values, tmp_path / "out")
    assert (tmp_path / "out" / "validation.txt").read_text() == "a DET\nb NOUN\nc VERB\ne _\n\n"


def test_types_without_marks_are_scored_without_the_words_outside(tmp_path):
    write(tmp_path, {"train.txt": "a PER\nb O\nc LOC\n", "dev.txt": "a PER\nb O\nc LOC\nd O\n"})
    task = load(tmp_path, validation="dev.txt")
    values = np.zeros((len(task.splits["validation"].ids), 3), np.float32)
    values[[1, 2, 3, 4], [task.labels.index(tag) for tag in ("PER", "O", "O", "O")]] = 1
    assert task.score("validation", values) == pytest.approx(
        {"f1": 2 / 3, "precision": 1, "recall": 1 / 2, "accuracy": 3 / 4, "macro_f1": (1 + 4 / 5 + 0) / 3}
    )


def test_words_behind_the_cut_are_counted_with_their_entities(tmp_path):
    long = "a B-LOC\n\u200b O\nbc B-LOC\nd I-LOC\ne O\nf B-LOC\n\na O\n"
    write(tmp_path, {"train.txt": CONLL, "long.txt": long})
    task = load(tmp_path, validation="long.txt", max_length=5)
    lost = [note for note in task.notes if "never seen" in note]
    assert [note.partition(" are behind")[0] for note in lost] == [
        "train: 1 of 5 words, with 0 of 2 entities,",
        "validation: 3 of 7 words, with 2 of 3 entities,",
        "validation: 1 of 7 words have no token and are never seen",
    ]
    assert task.splits["validation"].lost.tolist() == [3, 0]


def test_notes_show_what_was_read(tmp_path):
    write(tmp_path, {"train.txt": CONLL, "test.txt": PLAIN})
    assert load(tmp_path, test="test.txt").notes == (
        "first sentence of train: ab/B-PER c/I-PER ./O",
        "train: 3 sentences, 5 words, 2 entities: PER 1, LOC 1 (words in column 1, tags in column 4)",
        "test: 2 sentences, 4 words without tags",
    )


def test_words_and_types_that_a_program_or_a_hand_has_changed_are_named(tmp_path):
    odd = "a B-LOC\nnan O\nb'c' O\n\n" * 12 + "d B-LCO\n"
    write(tmp_path, {"train.txt": odd, "torn.txt": "a B-LOC\n\nb O\n\n" * 10})
    found = [note for note in load(tmp_path, validation="torn.txt").notes if note.startswith("warning: ")]
    assert found == [
        f"warning: {tmp_path}/train.txt line 49 has the type 'LCO' (1 word), which is nearly 'LOC' (12 words); write "
        "them alike if they are one type",
        "warning: train: 12 words such as 'nan', as pandas and Excel write null, NA or None; write the words of the "
        "text",
        "warning: train: 12 words such as \"b'c'\", which are Python's bytes; write the words of the text",
        "warning: validation: every sentence has one word; put a blank line after each sentence, not each word",
    ]


@pytest.mark.parametrize(
    ("lines", "warning"),
    [
        ("[CLS] O|a B-LOC|##b I-LOC|", "3 words such as '\u0120a', as tokenizers"),
        (
            "a B-LOC|b B-LOC|c O|",
            "no entity has a second word, but 20 begin right behind one of their type",
        ),
        ("a 0|b 1|a 1|", "all tags are numbers, each of one word; write their names"),
        ("a B-LOC|b I-LOC|c B-LOC|", ""),
        ("a NN|b NNS|# O|", ""),
    ],
)
def test_what_is_probably_no_word_or_no_tag_is_named(tmp_path, lines, warning):
    number = 1 if warning.startswith("3") else 20
    text = "\u0120a B-LOC\n\n" if number == 1 else ""
    write(tmp_path, {"train.txt": text + (lines.replace("|", "\n") + "\n") * number})
    found = [note for note in load(tmp_path, tag_column="2").notes if note.startswith("warning: ")]
    assert [warning in note for note in found] == [True] * bool(warning)


ROWS = [{"id": "0", "tokens": ["ab", "c"], "ner_tags": ["B-PER", "I-PER"], "pos_tags": ["X", "Y"]},
        {"id": "1", "tokens": ["d d"], "ner_tags": ["O"], "pos_tags": ["X"]}]  # fmt: skip


def test_json_has_lists_of_words_and_tags(tmp_path):
    lines = "".join(json.dumps(row) + "\n\n" for row in ROWS)
    write(tmp_path, {"a.jsonl": lines, "b.json": json.dumps(ROWS, indent=1), "c": '{"tokens": ["ab"]}'})
    task = load(tmp_path, train="a.jsonl", validation="b.json", test="c")
    assert task.labels == ("B-PER", "I-PER", "O")
    for a, b in zip(task.splits["train"], task.splits["validation"], strict=True):
        assert (a == b).all()
    assert task.eval_splits == ("validation",)
    values = np.zeros((len(task.splits["validation"].ids), 3), np.float32)
    task.write("validation", values, tmp_path / "out")
    assert (tmp_path / "out" / "validation.txt").read_text() == "ab\tB-PER\nc\tB-PER\n\nd d\tB-PER\n\n"
    task = load(tmp_path, train="a.jsonl", tag_column="pos_tags")
    assert task.labels == ("X", "Y")


def test_rows_without_words_are_counted_since_predictions_lack_them(tmp_path):
    empty, document = ({"tokens": words, "ner_tags": ["O"] * len(words)} for words in ([], ["-DOCSTART-"]))
    write(tmp_path, {"a": "\n".join(map(json.dumps, [document, *ROWS])), "b": json.dumps([empty, *ROWS, empty])})
    notes = "\n".join(load(tmp_path, train="a", validation="b").notes)
    assert "1 row without a sentence left out)" in notes
    assert "2 rows without a sentence left out, also in its predictions)" in notes


def test_parquet_has_lists_and_the_names_of_classes(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = ["O", "B-PER", "I-PER"]
    rows = [row | {"ner_tags": [names.index(tag) for tag in row["ner_tags"]]} for row in ROWS]
    table = pyarrow.Table.from_pylist(rows)
    write(tmp_path, {"a.jsonl": "\n".join(map(json.dumps, ROWS))})
    wanted = load(tmp_path, train="a.jsonl").splits["train"]
    label = {"names": names, "_type": "ClassLabel"}
    for feature in ({"feature": label, "_type": "List"}, [label]):
        info = json.dumps({"info": {"features": {"ner_tags": feature, "id": {"dtype": "string", "_type": "Value"}}}})
        parquet.write_table(table.replace_schema_metadata({"huggingface": info}), tmp_path / "a.parquet")
        for a, b in zip(wanted, load(tmp_path, train="a.parquet").splits["train"], strict=True):
            assert (a == b).all()
    parquet.write_table(table, tmp_path / "plain.parquet")
    with pytest.raises(command.UserError, match=r"plain.parquet row 1 has numbers under 'ner_tags'; write the names"):
        load(tmp_path, train="plain.parquet")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"tokens": ["a"], "ner_tags": [3]}', "x row 1 has numbers under 'ner_tags'; write the names of the classes"),
        ('{"tokens": ["a"], "ner_tags": ["O", "O"]}', "x row 1 has 1 words but 2 tags"),
        ('{"tokens": ["a"], "x": ["O"], "y": ["O"]}', "does not tell which of 'tokens', 'x', 'y' has the tags"),
        ('{"tokens": ["a"], "ner_tags": ["O"]}\n{"tokens": "a"}', "x row 2 has no list under 'tokens'"),
        ('{"tokens": ["a", ""], "ner_tags": ["O", "O"]}', "x row 1 has something else than a word under 'tokens'"),
        ('{"tokens": ["a"], "ner_tags": ["O"]}\n{"tok', "x row 2 is not a JSON object"),
        ('[{"tokens": ["a"], "ner_tags": ["O"]', "x is not whole JSON"),
        ('{\n "data": []}', "x row 1 is not a JSON object; write an object a line"),
        ("[]", "x has no sentences"),
        ('[["a b", {"entities": [[0, 1, "PER"]]}]]', "x row 1 is not a JSON object"),
        ('{"text": "a b", "label": [[0, 1, "PER"]]}', "row 1 has text with places of characters, not lists; divide it"),
    ],
)
def test_bad_json_is_named_with_its_row(tmp_path, content, complaint):
    write(tmp_path, {"x": content})
    with pytest.raises(command.UserError) as error:
        load(tmp_path, train="x")
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("names", "content", "complaint"),
    [
        (dict(validation="x"), "a O\n\nb PER\n", "x line 3 has the tag 'PER' .1 word., which does not mark an entity"),
        (dict(test="x"), "a O\nb b-per\n", "x line 2 has the tag 'b-per'"),
        (dict(validation="x"), "a O\nb\n", r"x line 2 has 1 columns, but most lines have 2"),
        (dict(validation="x"), "a NN O\nb NN\n", r"x line 2 has 2 columns"),
        (dict(test="x"), "a\nb O\n", r"x line 2 has 2 columns, but most lines have 1"),
        (dict(validation="x"), "a\nb\n", "x has no tags, only one column; each line needs a word and its tag"),
        (dict(train="x"), "a\nb\n", "x has no tags"),
        (dict(train="x"), "Sentence,Word,Tag\n1,a,O\n", "x is a table divided by ','; write a word, a tab and its tag"),
        (dict(train="x"), "a,O\nb,O\n", "x has no tags, only one column; divide the columns by tabs, not"),
        (dict(train="x"), "a O\nb O\n", "has only the tag 'O' in x, and nothing to learn"),
        (dict(test="x"), "\n-DOCSTART- -X- O\n", "x has no sentences"),
        (dict(validation="x"), "", "x has no sentences"),
        (dict(validation="x"), b"a O\nb\x00 O\n", "x line 2 has a NUL character"),
        (dict(validation="x"), b"a O\rb O\r", "x line 1 has a character '\\\\r' inside it; convert its line ends"),
        (dict(train="x"), "a O\n" * 200 + "b B-X\n", "x has 201 words in one sentence; put a blank line"),
        (dict(validation="x"), b"a O\n\xe9 O\n", "x line 2 is not UTF-8"),
        (dict(train=""), "", "needs a train split"),
        (dict(max_length=4), "", "max_length 4 has no room"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, names, content, complaint):
    write(tmp_path, {"train.txt": CONLL, "x": content})
    with pytest.raises(command.UserError, match=complaint):
        load(tmp_path, **names)


def test_names_are_paths_without_a_folder(tmp_path):
    write(tmp_path, {"a.txt": CONLL, "b.txt": CONLL})
    task = load("", train=str(tmp_path / "a.txt"), validation=str(tmp_path / "b.txt"))
    assert task.splits["validation"].ids.tolist() == load(tmp_path, train="a.txt").splits["train"].ids.tolist()
    with pytest.raises(command.UserError, match=r"no data: give --config.data.dir=DIR"):
        load("")
    with pytest.raises(command.UserError, match=r"no file valid.txt, .* or --config.data.validation= if there is none"):
        load("", train=str(tmp_path / "a.txt"), validation="valid.txt")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(strategies.binary() | strategies.text(f"{LETTERS} \t\r\n-OBIPER\u2028\u200b").map(str.encode))
def test_any_bytes_are_rows_or_a_complaint(tmp_path, raw):
    write(tmp_path, {"train.txt": CONLL, "test.txt": raw})
    try:
        rows = load(tmp_path, test="test.txt").splits["test"]
    except command.UserError:
        return
    assert len(rows.lengths) > 0
    assert len(rows.ids) == len(rows.labels) == rows.lengths.sum()
