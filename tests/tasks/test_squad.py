"""SQuAD as a task: perfect logits score 100, and the files are in the format of the official scripts."""

import json

from helpers import squad_files
import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from bert_tpu.core import command, config
from bert_tpu.tasks import reader, squad, squad_metrics

CONTEXT = "The Café ran low: un, unwanted and the 中日本 " + "low " * 30 + "in 1854. 🤗 the end"
QUESTIONS = [
    squad_files.question("q-cafe", "What ran low?", [("The Café", 0), ("Café", 4)]),
    squad_files.question("q-cjk", "What is it?", [("中日本", CONTEXT.index("中"))]),
    squad_files.question("q-year", "What is the year?", [("1854", CONTEXT.index("1854"))]),
]
UNANSWERED = squad_files.question("q-none", "What is wanted?", is_impossible=True, plausible_answers=[])
SETTINGS = dict(
    max_length=40, doc_stride=12, max_query_length=64, max_answer_length=30, n_best=20, null_threshold=0.0,
    vocabulary=squad_files.VOCABULARY,
)  # fmt: skip


def load(tmp_path, asked=QUESTIONS, **settings):
    other = squad_files.question("q2", "Is?", [("low", 3)])
    path = squad_files.write(tmp_path / "dev.json", (CONTEXT, asked), ("un low", [other]))
    return squad.load(train=path, validation=path, **dict(version="1.1") | SETTINGS | settings)


def perfect(task):
    """Returns logits of 9 at the label's places. A row without an answer has 8, less than an answer, at [CLS]."""
    rows = task.splits["validation"]
    logits = np.zeros((len(rows.ids), 2), np.float32)
    for start, span in zip(rows.starts, rows.labels, strict=False):
        logits[start + span, [0, 1]] = 9 if span.any() else 8
    return logits


def test_perfect_logits_score_100(tmp_path):
    task = load(tmp_path)
    assert task.score("validation", perfect(task)) == {"f1": 100.0, "exact_match": 100.0}
    assert task.eval_splits == ("validation",)
    assert list(task.splits) == ["train", "validation"]
    assert len(task.splits["validation"].lengths) > len(QUESTIONS) + 1


def test_the_first_answer_is_learnt_and_any_counts(tmp_path):
    task = load(tmp_path)
    logits = perfect(task)
    rows = task.splits["validation"]
    first, last = rows.starts[0] + rows.labels[0]
    logits[first : last + 1] = 0
    logits[[first + 1, last], [0, 1]] = 9  # Café, the second of its answers
    assert task.score("validation", logits) == {"f1": 100.0, "exact_match": 100.0}
    logits[[first + 1, last], [0, 1]] = 0
    logits[[first, last + 1], [0, 1]] = 9  # "The Café ran": 2/2 of 2/3 words, articles aside
    scores = task.score("validation", logits)
    assert scores == {"f1": pytest.approx(100 * (3 + 2 / 3) / 4), "exact_match": 75.0}


@pytest.mark.parametrize(("version", "exact"), [("1.1", "exact_match"), ("2.0", "exact")])
def test_draws_are_of_questions(tmp_path, version, exact):
    task = load(tmp_path, [*QUESTIONS, UNANSWERED] if version == "2.0" else QUESTIONS, version=version)
    right, wrong = perfect(task), perfect(task)
    start, span = task.splits["validation"].starts[0], task.splits["validation"].labels[0]
    wrong[start : start + span[0] + 1] = 0
    wrong[[start + span[0] + 3] * 2, [0, 1]] = 9  # of the first question alone
    scores = [task.score("validation", each)[exact] for each in (right, wrong)]
    drawn = task.bootstrap("validation", np.stack([right, wrong]))
    assert list(drawn) == ["f1", exact]
    assert scores[1] < scores[0] == 100
    assert (drawn[exact][:, 0] == 100).all()
    assert drawn[exact][:, 1].mean() == pytest.approx(scores[1], abs=2)


def test_a_file_without_answers_has_nothing_to_learn(tmp_path):
    path = squad_files.write(tmp_path / "train.json", (CONTEXT, [UNANSWERED]))
    with pytest.raises(command.UserError, match=r"train.json has no answer in any window"):
        squad.load(train=path, validation=path, version="2.0", **SETTINGS)


def test_misplaced_answers_may_be_left_out_of_training_and_compared_as_texts(tmp_path):
    wrong = squad_files.question("q-wrong", "What is it?", [("Café", 7)])
    partly = squad_files.question("q-partly", "What is it?", [("low", 0), ("Café", 4)])
    asked = [*QUESTIONS, wrong, partly]
    with pytest.raises(command.UserError) as error:
        load(tmp_path, asked)
    assert "question q-wrong has the answer 'Café' at character 7" in str(error.value)
    assert "; 2 of 8 answers are not at their places, and --config.data.misplaced=allow trains" in str(error.value)
    task = load(tmp_path, asked, misplaced="allow")
    rows = task.splits["train"], task.splits["validation"]
    assert "train: 2 answers are not at their answer_start; their questions are left out" in task.notes
    assert "validation: 2 answers are not at their answer_start; scores compare their texts alone" in task.notes
    assert len(rows[0].lengths) < len(rows[1].lengths)
    # Perfect logits have no place for the wrong answer, whose text is "Café"; all other questions are right.
    assert task.score("validation", perfect(task))["exact_match"] == pytest.approx(100 * 5 / 6)
    with pytest.raises(command.UserError, match=r"give --config\.data\.misplaced=refuse or allow"):
        load(tmp_path, misplaced="skip")


def test_notes_count_what_was_read_and_what_is_lost(tmp_path):
    odd = [
        UNANSWERED | {"answers": [{"text": "", "answer_start": -1}]},
        squad_files.question("q-long", "What is it?", [(CONTEXT[:60], 0)]),
        squad_files.question("q-words", "What " * 20, [("Café", 4)]),
    ]
    task = load(tmp_path, [*QUESTIONS, *odd], version="2.0", max_query_length=9, max_answer_length=4, max_length=24)
    rows = task.splits["validation"]
    assert [note.removeprefix("validation: ") for note in task.notes if note.startswith("validation")] == [
        "for example 'What ran low?': 'The Café'",
        f"7 questions, 1 of them unanswerable, about 2 contexts; {len(rows.lengths)} windows, "
        f"{rows.labels.any(1).sum()} of them with the answer",
        "1 answer without text left out",
        "1 answer in no window as a whole, so that training takes the question as unanswerable; a higher max_length "
        "or a lower doc_stride helps",
        "1 question cut to max_query_length 9 tokens",
    ]
    notes = load(tmp_path, [*QUESTIONS, *odd], version="2.0", max_answer_length=3, max_length=400).notes
    assert "train: 2 answers of over 3 tokens (max_answer_length), too many to predict" in notes


def test_answers_that_no_tokens_spell_and_odd_texts_are_counted(tmp_path):
    place = CONTEXT.index("low ")
    part = squad_files.question("q-part", "What?", [("lo", place)])
    whole = squad_files.question("q-article", "What?", [("low:", CONTEXT.index("low:"))])
    either = squad_files.question("q-either", "What?", [("lo", place), ("low", place)])
    found = [note for note in load(tmp_path, [part, whole, either]).notes if "token, such" in note]
    sentence = "1 answer within a token, such as 'lo' in 'low', so that no prediction is right"
    assert found == [f"warning: train: {sentence}", f"warning: validation: {sentence}"]
    path = squad_files.write(tmp_path / "x", ("<p>un low</p>", [squad_files.question("q", "nan", [("low", 6)])]))
    notes = squad.load(train=path, validation=path, version="1.1", **SETTINGS).notes
    assert [note.partition(" (")[0] for note in notes if "which" in note][:2] == [
        "train: 1 text with HTML, which the model reads as words",
        "warning: train: 1 text of nothing but None, NaN or the like, which the model reads as words",
    ]


def test_perfect_logits_score_100_with_unanswerable_questions(tmp_path):
    task = load(tmp_path, [*QUESTIONS, UNANSWERED], version="2.0")
    scores = task.score("validation", perfect(task))
    assert next(iter(scores)) == "f1"
    groups = ("", "HasAns_", "NoAns_", "best_")
    assert {scores[f"{group}{name}"] for group in groups for name in ("exact", "f1")} == {100}
    always = load(tmp_path, [*QUESTIONS, UNANSWERED], version="2.0", null_threshold=1e9)
    scores = always.score("validation", perfect(always))
    assert (scores["f1"], scores["NoAns_f1"], scores["best_f1"]) == (80.0, 0.0, 100.0)


def read(folder):
    return {path.name: json.loads(path.read_text()) for path in folder.iterdir()}


def test_version_1_writes_predictions_and_the_best_of_them(tmp_path):
    task = load(tmp_path, n_best=3)
    task.write("validation", perfect(task), tmp_path / "new" / "folder")
    files = read(tmp_path / "new" / "folder")
    assert files.keys() == {"predictions.json", "nbest_predictions.json"}
    texts = {"q-cafe": "The Café", "q-cjk": "中日本", "q-year": "1854", "q2": "low"}
    assert files["predictions.json"] == texts
    for name, likely in files["nbest_predictions.json"].items():
        assert len(likely) == 3
        assert likely[0].keys() == {"text", "probability", "start_logit", "end_logit"}
        assert (likely[0]["text"], likely[0]["start_logit"], likely[0]["end_logit"]) == (texts[name], 9, 9)
        assert sum(span["probability"] for span in likely) == pytest.approx(1)


def test_version_2_writes_the_odds_of_no_answer_and_empty_answers(tmp_path):
    task = load(tmp_path, [*QUESTIONS, UNANSWERED], version="2.0", n_best=3)
    task.write("validation", perfect(task), tmp_path / "out")
    files = read(tmp_path / "out")
    assert files.keys() == {"predictions.json", "nbest_predictions.json", "null_odds.json"}
    assert files["predictions.json"] | {"q-none": ""} == files["predictions.json"]
    assert files["predictions.json"]["q-year"] == "1854"
    assert files["null_odds.json"]["q-none"] == 16  # 8 + 8 at [CLS] in every window against 0 + 0
    assert files["null_odds.json"]["q-year"] == -18  # 0 + 0 at [CLS] of the window that has the answer against 9 + 9
    likely = files["nbest_predictions.json"]["q-none"]
    assert (likely[0]["text"], likely[0]["start_logit"], len(likely)) == ("", 8, 4)
    assert files["nbest_predictions.json"]["q-year"][0]["text"] == "1854"
    assert [span["text"] for span in files["nbest_predictions.json"]["q-year"]].count("") == 1


@pytest.mark.parametrize("seed", range(3))
def test_files_score_as_the_task_does(tmp_path, seed):
    """The official scripts can compute the same scores from the files."""
    task = load(tmp_path, [*QUESTIONS, UNANSWERED], version="2.0", null_threshold=-1.0)
    logits = np.random.default_rng(seed).normal(0, 2, perfect(task).shape).astype(np.float32) + perfect(task) / 4
    task.write("validation", logits, tmp_path / "out")
    files = read(tmp_path / "out")
    golds = [[a["text"] for a in q["answers"]] for q in (*QUESTIONS, UNANSWERED)] + [["low"]]
    odds = list(files["null_odds.json"].values())
    scores = task.score("validation", logits)
    emptied = squad_metrics.evaluate_v2_0(list(files["predictions.json"].values()), golds, odds, 1e9)
    assert {k: v for k, v in scores.items() if "best" not in k} == {k: v for k, v in emptied.items() if "best" not in k}
    likely = [next(s["text"] for s in spans if s["text"]) for spans in files["nbest_predictions.json"].values()]
    assert squad_metrics.evaluate_v2_0(likely, golds, odds, -1.0) == scores


def test_the_advice_of_an_error_can_be_followed_on_the_command_line(tmp_path):
    record = squad_files.question("q", "what is it? " * 4, [("low", 0)])
    path = squad_files.write(tmp_path / "dev.json", ("low " * 40, [record]))
    words = [f"--config.data.{key}={value}" for key, value in (("train", path), ("validation", path))]
    words += ["--config.max_length=24", "--config.data.doc_stride=10"]

    def of(*more):
        cfg = config.load_changed("configs/squad.py:2.0", [*words, *more])
        return reader.read(cfg, squad_files.VOCABULARY)

    with pytest.raises(command.UserError, match=r"or --config\.data\.max_query_length=11 or"):
        of()
    few = of("--config.data.max_query_length=4", "--config.data.null_threshold=1e9", "--config.data.n_best=2")
    few.write("validation", perfect(few), tmp_path / "few")
    assert read(tmp_path / "few")["predictions.json"] == {"q": "low"}
    assert len(read(tmp_path / "few")["nbest_predictions.json"]["q"]) == 3  # and no answer
    none = of("--config.data.max_query_length=4", "--config.data.null_threshold=-1e9")
    none.write("validation", perfect(none), tmp_path / "none")
    assert read(tmp_path / "none")["predictions.json"] == {"q": ""}
    assert len(read(tmp_path / "none")["nbest_predictions.json"]["q"]) > 3
    with pytest.raises(command.UserError, match="max_answer_length 0: give 1 or more"):
        of("--config.data.max_answer_length=0")
    with pytest.raises(command.UserError, match=r"null_threshold: every question of SQuAD 1\.1 has an answer"):
        of("--config.data.version=1.1", "--config.data.null_threshold=-1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(version="3"), "version '3' is not one of 1.1, 2.0"),
        (dict(max_length=7), "max_length 7: give 8 to 512"),
        (dict(max_length=513), "max_length 513: give 8 to 512"),
        (dict(doc_stride=0), "doc_stride 0: give 1 or more"),
        (dict(n_best=0), "n_best 0: give 1 or more"),
        (dict(max_answer_length=-1), "max_answer_length -1: give 1 or more"),
        (dict(max_query_length=0), "max_query_length 0: give 1 or more"),
        (dict(doc_stride=38), "question q-year leaves "),
        (dict(max_length=8), "question q-year leaves "),
    ],
)
def test_settings_out_of_bounds_are_refused(tmp_path, settings, message):
    with pytest.raises(command.UserError) as fault:
        load(tmp_path, **settings)
    assert message in str(fault.value)


def test_a_file_of_version_2_is_refused_as_version_1(tmp_path):
    with pytest.raises(command.UserError, match=r"dev\.json: question q-none has no answer"):
        load(tmp_path, [*QUESTIONS, UNANSWERED])


DROPPED = "\u0301\u200b"
WORDS = strategies.lists(strategies.text("aeÉn中1.ΟΣ\u0301\u200b🤗", min_size=1), min_size=1, max_size=60)


@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
    deadline=None,
)
@hypothesis.given(words=WORDS, asked=strategies.text(), data=strategies.data())
def test_any_question_is_answered_by_perfect_logits(tmp_path, words, asked, data):
    first = data.draw(strategies.integers(0, len(words) - 1))
    answer, start = words[first], len(" ".join([*words[:first], ""]))
    hypothesis.assume(answer.strip(DROPPED) == answer)
    record = squad_files.question("q", asked, [(answer, start)])
    path = squad_files.write(tmp_path / "any.json", (" ".join(words), [record]))
    settings = dict(max_length=512, doc_stride=400, max_query_length=8, max_answer_length=100)
    task = squad.load(train=path, validation=path, version="1.1", **SETTINGS | settings)
    hypothesis.assume(len(task.splits["validation"].lengths) == 1)
    assert task.score("validation", perfect(task))["exact_match"] == 100.0
