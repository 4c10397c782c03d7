"""SQuAD's JSON is read completely or refused with the names of the file and the question."""

import copy
import json

from helpers import squad_files
import hypothesis
from hypothesis import strategies
import pytest

from bert_tpu.core import command
from bert_tpu.tasks import squad_file, squad_windows

CONTEXT = "Ünder the café, a cat. 🤗 is 3 dogs"
GOOD = squad_files.content(
    (CONTEXT, [squad_files.question("q1", answers=[("café", 10), ("the café", 6)])]),
    ("x y", [squad_files.question("q2", answers=[("y", 2)]), squad_files.question("q3", answers=[("x", 0)])]),
)
FIRST = ("data", 0, "paragraphs", 0)
ASKED = (*FIRST, "qas", 0)
LAST = {"text": CONTEXT[-4:], "answer_start": -4}


def changed(place, value):
    """Returns GOOD with another value at a place."""
    content = copy.deepcopy(GOOD)
    record = content
    for key in place[:-1]:
        record = record[key]
    record[place[-1]] = value
    return content


def complaint(tmp_path, content, version="1.1"):
    path = tmp_path / "dev.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(command.UserError) as fault:
        squad_file.read(path, version)
    assert str(path) in str(fault.value)
    assert "\n" not in str(fault.value)
    return str(fault.value)


def test_paragraphs_questions_and_answers_are_those_of_the_file(tmp_path):
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(GOOD))
    (first, second), *_ = squad_file.read(path, "1.1")
    assert first.context == CONTEXT
    assert first.questions == (squad_file.Question("q1", "what is it?", (("café", 10), ("the café", 6))),)
    assert [(q.id, q.answers) for q in second.questions] == [("q2", (("y", 2),)), ("q3", (("x", 0),))]
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD, ensure_ascii=False).encode())
    assert squad_file.read(str(path), "2.0").paragraphs == [first, second]


def test_a_question_without_answer_is_of_version_2(tmp_path):
    path = tmp_path / "dev.json"
    content = changed(ASKED, squad_files.question("q1", is_impossible=True, plausible_answers=[{"text": "cat"}]))
    path.write_text(json.dumps(content))
    assert squad_file.read(path, "2.0").paragraphs[0].questions[0].answers == ()
    assert "question q1 has no answer" in complaint(tmp_path, content)
    assert "set --config.data.version=2.0" in complaint(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b'{"data": [', "ends in line 1, before its JSON does; fetch it again"),
        (b'{"data": [{"paragraphs": "x', "ends in line 1, before its JSON does"),
        (b'{"data":\n,[]}', "line 2 is not JSON (Expecting value)"),
        (b"\xff\xfe\x00", "is UTF-16"),
        (b"\x1f\x8b\x08", "is compressed by gzip"),
        (b"[" * 100_000, "is not JSON"),
        ([], "has no question"),
        (["x"], "[0] has no list under 'paragraphs'"),
        (3, "has no list under 'data'"),
        ({"data": {}}, "has no list under 'data'"),
        ({"data": []}, "has no question"),
        ({"data": ["x"]}, "data[0] has no list under 'paragraphs'"),
        (changed((*FIRST, "context"), 3), "data[0].paragraphs[0] has no text under 'context'"),
        (changed((*FIRST, "qas"), None), "data[0].paragraphs[0] has no list under 'qas'"),
        (changed((*ASKED, "id"), 7.0), "data[0].paragraphs[0].qas[0] has no text under 'id'"),
        (changed((*ASKED, "question"), None), "question q1 has no text under 'question'"),
        (changed((*ASKED, "question"), "a\ud83d"), "question q1: 'question' has half a surrogate pair"),
        (changed((*ASKED, "answers"), {"text": ["café"]}), "question q1 has no list under 'answer_start'"),
        (changed((*ASKED, "answers"), {"text": ["café"], "answer_start": []}), "has 1 answers but 0 of their starts"),
        (changed((*ASKED, "answers"), "café"), "question q1 has no list under 'answers'"),
        (
            changed((*ASKED, "answers", 0, "answer_start"), True),
            "question q1 has no whole number under 'answer_start' but True",
        ),
        (changed((*ASKED, "answers", 0, "answer_start"), 10.0), "no whole number under 'answer_start' but 10.0: give"),
        (
            changed((*ASKED, "answers", 0, "text"), "cafe\u0301"),
            "or the text, which the context has in another Unicode",
        ),
        (changed((*ASKED, "answers", 0, "text"), "Café"), "or the text, which the context has in other case; 1 of 4"),
        (b"id,context,question,answers\n1,a,b,\"{'text': array(['a'])}\"\n", "is a table of text, where answers are"),
        ({"context": {"0": "a"}, "question": {"0": "b"}}, "is one JSON object, not rows; write an array of objects"),
        ({"train": [], "dev": []}, "has no list under 'data' but under 'train'; write that list alone"),
        (changed((*ASKED, "answers", 1, "answer_start"), 7), "at character 7, but there its context has 'he café,'"),
        (changed((*ASKED, "answers", 0), LAST), "question q1 has the answer 'dogs' at character -4"),
        (changed((*ASKED, "answers", 0, "answer_start"), 9999), "question q1 has the answer 'café' at character 9999"),
        (changed((*ASKED, "answers", 0, "answer_start"), 11), "(11 counts bytes of UTF-8, not characters)"),
        (
            changed((*ASKED, "answers", 0), {"text": "3", "answer_start": 29}),
            "which is 28 at the nearest (29 counts units",
        ),
        (changed((*ASKED, "answers", 0, "answer_start"), 9), "fix answer_start, which is 10 at the nearest"),
        (
            changed((*ASKED, "answers", 0, "text"), "cafe"),
            "there its context has 'café': fix answer_start, or the text",
        ),
        (
            changed((*ASKED, "answers"), [{"text": "", "answer_start": 0}]),
            "q1 has no answer, which version 1.1 does not",
        ),
        (changed((*ASKED, "is_impossible"), True), "question q1 has 2 answers with text and is_impossible=True"),
        (changed((*ASKED, "is_impossible"), "false"), "and is_impossible='false': fix one of them"),
        (changed((*ASKED, "id"), "q3"), "question q3 occurs twice"),
    ],
)
def test_what_is_not_squad_is_refused_by_name(tmp_path, content, message):
    assert message in complaint(tmp_path, content)


def test_answers_that_are_mostly_misplaced_are_not_to_be_left_out(tmp_path):
    content = copy.deepcopy(GOOD)
    asked = [question for article in content["data"] for part in article["paragraphs"] for question in part["qas"]]
    for i, answer in enumerate(answer for question in asked for answer in question["answers"]):
        answer["answer_start"] += 1
        if i < 2:
            few = complaint(tmp_path, content)
            assert few.endswith(("allow trains without them", "and each is found at answer_start - 1"))
    assert complaint(tmp_path, content).endswith("; 4 of 4 answers are not at their places, and each is found at "
                                                 "answer_start - 1")  # fmt: skip
    path = tmp_path / "dev.json"
    with pytest.raises(command.UserError, match="has no question whose answer is at its place; fix answer_start"):
        squad_file.read(path, "1.1", "drop")
    asked[0]["answers"][0]["answer_start"] += 1
    assert complaint(tmp_path, content).endswith(
        "4 of 4 answers are not at their places, too many to train without them"
    )


@pytest.mark.parametrize(
    "answers",
    [
        [{"text": "", "answer_start": -1}],
        [{"text": " ", "answer_start": 0}, {"text": None, "answer_start": None}],
        [{"text": float("nan"), "answer_start": float("nan")}],
        {"text": [""], "answer_start": [-1]},
    ],
)
def test_answers_without_text_are_none(tmp_path, answers):
    path = tmp_path / "dev.json"
    for more in ({}, {"is_impossible": True}):
        content = changed(ASKED, {"id": "q1", "question": "?", "answers": answers} | more)
        path.write_text(json.dumps(content))
        read = squad_file.read(path, "2.0")
        assert read.paragraphs[0].questions[0].answers == ()
        assert read.placeholders == len(answers if isinstance(answers, list) else answers["text"])
    assert "has 0 answers with text and is_impossible=False" in complaint(
        tmp_path, changed(ASKED, {"id": "q1", "question": "?", "answers": answers, "is_impossible": False}), "2.0"
    )


def test_an_answer_without_text_next_to_a_real_one_does_not_count(tmp_path):
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(changed((*ASKED, "answers", 0), {"text": "", "answer_start": 0})))
    read = squad_file.read(path, "1.1")
    assert read.paragraphs[0].questions[0].answers == (("the café", 6),)
    assert read.placeholders == 1


def test_an_impossible_question_needs_no_answers_and_an_id_may_be_a_number(tmp_path):
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(changed(ASKED, {"id": 7, "question": "?", "is_impossible": True})))
    assert squad_file.read(path, "2.0").paragraphs[0].questions == (("7", "?", ()),)


ROWS = [
    {"id": "q1", "title": "", "context": CONTEXT, "question": "what is it?",
     "answers": {"text": ["café", "the café"], "answer_start": [10, 6]}},
    {"id": "q2", "context": "x y", "question": "what is it?", "answers": {"text": ["y"], "answer_start": [2]}},
    {"id": "q3", "context": "x y", "question": "what is it?", "answers": {"text": ["x"], "answer_start": [0]}},
]  # fmt: skip
PARAGRAPHS = [article["paragraphs"][0] for article in GOOD["data"]]


@pytest.mark.parametrize(
    "content",
    [
        "\n\n".join(json.dumps(row) for row in ROWS),
        json.dumps(ROWS, indent=1),
        json.dumps({"version": "0.1.0", "data": ROWS}),
        json.dumps(PARAGRAPHS),
        json.dumps(GOOD["data"]),
        "\n".join(json.dumps(paragraph) for paragraph in PARAGRAPHS),
    ],
    ids=["lines", "list", "data", "paragraphs", "articles", "lines of paragraphs"],
)
def test_rows_and_paragraphs_are_the_same_as_articles(tmp_path, content):
    (tmp_path / "good.json").write_text(json.dumps(GOOD))
    (tmp_path / "other").write_text(content)
    assert squad_file.read(tmp_path / "other", "1.1") == squad_file.read(tmp_path / "good.json", "1.1")


def test_parquet_has_rows(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "0000.parquet")
    (tmp_path / "good.json").write_text(json.dumps(GOOD))
    assert squad_file.read(tmp_path / "0000.parquet", "1.1") == squad_file.read(tmp_path / "good.json", "1.1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(ROWS[0]), ""),
        (json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[1])[:50], "line 2 is not JSON; fix it"),
        (json.dumps(ROWS[0]) + "\n3", "line 2 has no list under 'paragraphs'"),
        (json.dumps(ROWS[0] | {"context": None}), "line 1 has no text under 'context'"),
        (json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[1] | {"id": None}), "line 2 has no text under 'id'"),
        (json.dumps(ROWS * 2), "question q1 occurs twice"),
    ],
)
def test_rows_are_refused_with_their_line(tmp_path, content, message):
    if message:
        assert message in complaint(tmp_path, content.encode())
    else:
        (tmp_path / "one.json").write_text(content)
        assert len(squad_file.read(tmp_path / "one.json", "1.1").paragraphs) == 1


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(), inner, max_size=3),
    max_leaves=8,
)


def places(record, at=()):
    """Yields the places of all values inside a JSON value."""
    yield at
    for key in record if isinstance(record, dict) else range(len(record)) if isinstance(record, list) else ():
        yield from places(record[key], (*at, key))


@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
    deadline=None,
)
@hypothesis.given(
    content=JSON | strategies.builds(changed, strategies.sampled_from([*places(GOOD)][1:]), JSON),
    version=strategies.sampled_from(squad_file.VERSIONS),
)
def test_any_json_makes_rows_or_is_refused(tmp_path, content, version):
    path = tmp_path / "any.json"
    path.write_text(json.dumps(content))
    try:
        paragraphs = squad_file.read(path, version).paragraphs
        rows = squad_windows.make(
            paragraphs, path="any.json", vocabulary=squad_files.VOCABULARY,
            max_length=32, doc_stride=8, max_query_length=16,
        ).rows  # fmt: skip
    except command.UserError:
        return
    assert len(rows.labels) >= sum(len(asked) for _, asked in paragraphs)
    for context, asked in paragraphs:
        for question in asked:
            assert all(context[start : start + len(text)] == text for text, start in question.answers)


@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
    deadline=None,
)
@hypothesis.given(raw=strategies.binary())
def test_any_bytes_are_read_or_refused(tmp_path, raw):
    path = tmp_path / "any.json"
    path.write_bytes(raw)
    with pytest.raises(command.UserError):
        squad_file.read(path, "2.0")
