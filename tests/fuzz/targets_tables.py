"""Tables of rows, columns of tags, and questions: written and read again, and damaged."""

import csv
import io
import itertools
import json
import pathlib
import tempfile
import unicodedata

from helpers import squad_files
from hypothesis import strategies as st
import numpy as np

from bert_tpu.readers import tabular
from bert_tpu.tasks import ner, squad_file, table
from fuzz import damaged
from fuzz.target import Target

LETTERS = "abAB é中🙂'\"\t;,|\\/.0123-_\u00a0\u2028\u0085\ufeff\r\n"
CELLS = st.text(st.sampled_from(LETTERS), max_size=12)
NAMES = ("text", "label")
LABELS = (
    "no",
    "yes",
    " no",
    "No",
    "0",
    "1",
    "0.0",
    "1.0",
    "true",
    "-1",
    "",
    "nan",
    "né",
    unicodedata.normalize("NFD", "né"),
)
TABLES = st.lists(st.tuples(CELLS, st.sampled_from(LABELS)), min_size=1, max_size=12)
# Half of the tables have two classes, so that many are accepted.
PLAIN_TABLES = st.lists(
    st.tuples(CELLS.map(lambda text: f"a{text}"), st.sampled_from(("0", "1"))), min_size=4, max_size=12
)


def _as_csv(rows, **options):
    file = io.StringIO()
    csv.writer(file, **options).writerows([NAMES, *rows])
    return file.getvalue().encode()


def _as_tsv(rows):
    return "".join("\t".join(cells) + "\n" for cells in [NAMES, *rows]).encode()


def _as_jsonl(rows):
    return "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in rows).encode()


WRITERS = {".csv": _as_csv, ".tsv": _as_tsv, ".jsonl": _as_jsonl}


def _in_file(raw, name, use):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / name
        path.write_bytes(raw)
        return use(path)


def _check_table(drawn):
    """The cells of a table are those that were written."""
    rows, suffix = drawn
    if suffix == ".tsv":  # no way to write these in a cell
        rows = [(text.translate(dict.fromkeys(map(ord, "\t\r\n"), " ")), label) for text, label in rows]
    columns = _in_file(WRITERS[suffix](rows), f"rows{suffix}", lambda path: tabular.read(path, NAMES).whole())
    assert columns.values == {name: [row[i] for row in rows] for i, name in enumerate(NAMES)}, columns.values


def _check_task(drawn):
    """A table becomes a task of its rows, whose classes do not differ by spaces, case or form alone; or is refused."""
    raw, suffix, head = drawn
    keys = {"validation": "", "test": "", "text": "text", "text_pair": "", "label": "label"}

    def use(path):
        return table.load(train=str(path), head=head, max_length=16, vocabulary=squad_files.VOCABULARY, **keys)

    task = _in_file(raw, f"rows{suffix}", use)
    assert len(task.splits["train"].labels) == len(task.splits["train"].lengths) > 0
    assert np.isfinite(task.splits["train"].labels).all()
    folded = [unicodedata.normalize("NFKC", name).casefold().strip() for name in task.labels]
    assert len(set(folded)) == len(folded), task.labels


TAGS = (
    "O",
    "B-PER",
    "I-PER",
    "B-LOC",
    "I-LOC",
    "E-LOC",
    "S-PER",
    "L-PER",
    "U-LOC",
    "B",
    "I",
    "DET",
    "b-per",
    "B_PER",
    "o",
    "",
)
WORDS = st.text(st.sampled_from("abé中🙂.,'-_1\u00a0"), min_size=1, max_size=6)
SENTENCES = st.lists(
    st.lists(st.tuples(WORDS, st.sampled_from(TAGS[:7])), min_size=1, max_size=6), min_size=1, max_size=5
)
ANY_SENTENCES = st.lists(
    st.lists(st.tuples(WORDS, st.sampled_from(TAGS)), min_size=1, max_size=6), min_size=1, max_size=5
)


def _as_conll(sentences, divider=" "):
    return "\n\n".join("\n".join(divider.join(cells) for cells in sentence) for sentence in sentences).encode()


def _ner(path):
    return ner.load(
        dir=str(path.parent), train=path.name, validation=path.name, test="", max_length=64,
        vocabulary=squad_files.VOCABULARY,
    )  # fmt: skip


def _check_tags(sentences):
    """The labels of a CoNLL file are the tags that were written, at each word that has a token."""
    task = _in_file(_as_conll(sentences), "train.txt", _ner)
    rows = task.splits["train"]
    assert len(rows.lengths) == len(sentences)
    labels = [task.labels[label] for label in rows.labels[rows.labels >= 0]]
    tags = [tag for _, tag in itertools.chain.from_iterable(sentences)]
    assert len(labels) <= len(tags)
    assert set(labels) <= set(tags)


def _check_conll(raw):
    """A damaged CoNLL file is refused, or gives rows of labels that it contains."""
    task = _in_file(raw, "train.txt", _ner)
    assert len(task.labels) > 1
    assert len(task.splits["train"].lengths) > 0


CONTEXT = "The café of Zoë 🙂 opened in 1912, near 中日."
ANSWERS = st.sampled_from([(word, CONTEXT.index(word)) for word in ("café", "Zoë", "1912", "中日")])
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 60), st.text(max_size=3), st.just([]), st.just({}), st.floats()
)


@st.composite
def _squad(draw):
    """Draws a file of SQuAD in bytes, often with one value of another type."""
    asked = [
        squad_files.question(
            str(i), "what is it?", draw(st.lists(ANSWERS, max_size=2)), is_impossible=draw(st.booleans())
        )
        for i in range(draw(st.integers(1, 3)))
    ]
    content = squad_files.content((CONTEXT, asked))
    if draw(st.integers(0, 2)) == 0:
        where = draw(st.sampled_from(list(_places(content))))
        parent = content
        for key in where[:-1]:
            parent = parent[key]
        parent[where[-1]] = draw(ODD)
    if draw(st.integers(0, 3)) == 0:  # rows as data sets of Hugging Face have them
        rows = [
            {"id": question["id"], "title": "", "context": CONTEXT, "question": question["question"], "answers": {
                "text": [answer["text"] for answer in question["answers"]],
                "answer_start": [answer["answer_start"] for answer in question["answers"]],
            }} for question in asked if isinstance(question.get("answers"), list)
            and all(isinstance(answer, dict) and len(answer) == 2 for answer in question["answers"])
            and {"id", "question"} <= question.keys()
        ]  # fmt: skip
        return "\n".join(map(json.dumps, rows)).encode()
    return json.dumps(content).encode()


def _places(record, at=()):
    """Yields the places of all values inside a JSON value."""
    if at:
        yield at
    for key in record if isinstance(record, dict) else range(len(record)) if isinstance(record, list) else ():
        yield from _places(record[key], (*at, key))


def _check_squad(drawn):
    """Every answer of a question is where it says in its context."""
    raw, version = drawn
    for context, asked in _in_file(raw, "train.json", lambda path: squad_file.read(path, version).paragraphs):
        for question in asked:
            for answer, start in question.answers:
                assert context[start : start + len(answer)] == answer
            if version == "1.1":
                assert question.answers


def targets():
    """The targets of this file."""
    suffix = st.sampled_from(list(WRITERS))
    raw = st.builds(lambda rows, write: write(rows), TABLES | PLAIN_TABLES, st.sampled_from(list(WRITERS.values())))
    conll = st.builds(_as_conll, ANY_SENTENCES, st.sampled_from((" ", "\t", "  ", ",")))
    return [
        Target("tables, written", st.tuples(TABLES, suffix), _check_table),
        Target(
            "tables, damaged",
            st.tuples(damaged.edits(raw), suffix, st.sampled_from(("classify", "regress"))),
            _check_task,
            2,
        ),
        Target("tags, written", SENTENCES, _check_tags, 0.5),
        Target("tags, damaged", damaged.edits(conll), _check_conll),
        Target("questions", st.tuples(damaged.edits(_squad()), st.sampled_from(squad_file.VERSIONS)), _check_squad),
    ]
