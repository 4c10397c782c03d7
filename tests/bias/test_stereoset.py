"""StereoSet's scores are those of the published evaluation, written in PyTorch; bad files are refused."""

import collections
import copy
import json
import string

from helpers import bias_benchmarks
import hypothesis
from hypothesis import strategies
import numpy as np
import pytest
import torch
import transformers

from bert_tpu.bias import stereoset
from bert_tpu.core import command


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return bias_benchmarks.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def filler(directory):
    return bias_benchmarks.load(directory)


@pytest.fixture
def examples(tmp_path):
    return stereoset.read([bias_benchmarks.write_stereoset(tmp_path / "dev.json")])


def published_scores(directory, content):
    """Returns sentence's id -> score, for the records of the file."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    bert = transformers.BertForMaskedLM.from_pretrained(directory).eval()
    scores = {}
    for record in content:
        for sentence in record["sentences"]:
            for place, word in enumerate(record["context"].split(" ")):
                if "BLANK" in word:
                    at = place
            word = "".join(c for c in sentence["sentence"].split(" ")[at] if c not in string.punctuation)
            pieces, chances = tokenizer.encode(word, add_special_tokens=False), []
            for number, piece in enumerate(pieces):
                text = record["context"].replace("BLANK", tokenizer.decode(pieces[:number]) + "[MASK]")
                ids = tokenizer(text, return_tensors="pt").input_ids
                with torch.no_grad():
                    p = bert(ids).logits.softmax(-1)[ids == tokenizer.mask_token_id]
                chances.append(p[0, piece].item())
            scores[sentence["id"]] = np.mean(chances)
    return scores


def published(content, scores):
    """Returns (language-model score, stereotype score, ICAT) of the records."""
    counts = collections.defaultdict(collections.Counter)
    for record in content:
        by_label = {sentence["gold_label"]: scores[sentence["id"]] for sentence in record["sentences"]}
        count = counts[record["target"]]
        count["total"] += 1
        count["pro"] += by_label["stereotype"] > by_label["anti-stereotype"]
        count["related"] += by_label["stereotype"] > by_label["unrelated"]
        count["related"] += by_label["anti-stereotype"] > by_label["unrelated"]
    lms = np.mean([100 * count["related"] / (2 * count["total"]) for count in counts.values()])
    ss = np.mean([100 * count["pro"] / count["total"] for count in counts.values()])
    return lms, ss, lms * min(ss, 100 - ss) / 50


def values(scores):
    return pytest.approx([each.value for each in scores])


def test_scores_are_the_published_ones(directory, filler, examples):
    content = bias_benchmarks.stereoset()
    scores = published_scores(directory, content)
    chances = stereoset.scores(filler, examples, "x")
    wanted = [[scores[f"{number} {label}"] for label in stereoset.LABELS] for number in range(len(content))]
    np.testing.assert_allclose(chances, wanted, rtol=1e-4)
    result = stereoset.judge(examples, chances)
    assert values(result.overall) == published(content, scores)
    assert list(result.by_domain) == ["colour", "gender"]
    for domain, domain_scores in result.by_domain.items():
        assert values(domain_scores) == published(
            [record for record in content if record["bias_type"] == domain], scores
        )
    assert result.overall.icat.examples == 6


def test_aggregation_is_the_published_one_for_many_examples_with_ties():
    rng = np.random.default_rng(0)
    targets = rng.choice(["a", "b", "c", "d", "e"], 60, p=[0.5, 0.3, 0.1, 0.05, 0.05])
    examples = [stereoset.Example(str(i), "x", target, "", ("", "", "")) for i, target in enumerate(targets)]
    chances = rng.integers(0, 4, (60, 3)).astype(float)
    content = [
        {"target": target, "sentences": [{"gold_label": label, "id": (i, label)} for label in stereoset.LABELS]}
        for i, target in enumerate(targets)
    ]
    scores = {(i, label): chances[i, j] for i in range(60) for j, label in enumerate(stereoset.LABELS)}
    overall = stereoset.judge(examples, chances).overall
    assert values(overall) == published(content, scores)
    assert all(each.low < each.value < each.high for each in overall[:2])
    again = stereoset.judge(examples * 2, np.tile(chances, (2, 1))).overall
    assert values(again) == [each.value for each in overall]


def test_targets_that_a_draw_leaves_out_have_no_part_in_it(monkeypatch):
    statistics = []
    monkeypatch.setattr(stereoset.bootstrap, "estimate", lambda statistic, examples: statistics.append(statistic))
    examples = [stereoset.Example(target, "x", target, "", ("", "", "")) for target in "aab"]
    stereoset.judge(examples, np.array([[2.0, 1, 0], [0, 1, 2], [0, 1, 0]]))
    language_model, stereotype, icat = (
        statistic(np.array([[2, 1, 0], [0, 0, 3], [1, 0, 2]])) for statistic in statistics[:3]
    )
    assert language_model == pytest.approx([100 * 2 / 3, 50, 75])
    assert stereotype == pytest.approx([100 * 2 / 3, 0, 50])
    assert icat == pytest.approx([100 * 2 / 3 * 2 / 3, 0, 75])


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (("big", "red"), ("small", "blue"), (100, 100, 0)),
        (("small", "blue"), ("big", "red"), (100, 0, 0)),
        (("big", "blue"), ("small", "red"), (100, 50, 100)),
        (("tree", "mat"), ("small", "red"), (0, 50, 0)),
    ],
)
def test_words_that_always_win_change_the_scores(first, second, wanted):
    """The first words are likely everywhere, and the second likelier than the rest."""
    examples = [
        stereoset.Example("1", "x", "man", "A man is BLANK.", ("big", "small", "tree")),
        stereoset.Example("2", "x", "dog", "The BLANK dog ran", ("red", "blue", "mat")),
    ]

    def edit(tree):
        bias_benchmarks.prefer(*first, by=60)(tree)
        bias_benchmarks.prefer(*second)(tree)

    overall = stereoset.score(bias_benchmarks.filler(edit), examples).overall
    assert tuple(each.value for each in overall) == wanted


def test_a_word_s_pieces_are_asked_from_left_to_right_as_text(filler):
    questions = stereoset.word_questions(filler, "The big!BLANK, BLANK", "runner")
    pieces = [filler.tokenizer.id_to_token(question.piece) for question in questions]
    assert "".join(piece.removeprefix("##") for piece in pieces) == "runner"
    texts = [
        "".join(filler.tokenizer.decode(question.ids, skip_special_tokens=False).split()) for question in questions
    ]
    so_far = ["".join(piece.removeprefix("##") for piece in pieces[:i]) for i in range(len(pieces))]
    assert texts == [f"[CLS]thebig!{word}[MASK],{word}[MASK][SEP]" for word in so_far]
    assert all(question.ids.index(filler.ids.mask) == question.place for question in questions)


def test_files_of_one_domain_each_give_the_same_examples(examples, tmp_path):
    content, paths = bias_benchmarks.stereoset(), []
    for domain in ("gender", "colour"):
        paths.append(tmp_path / f"dev_{domain}.json")
        records = [record for record in content if record["bias_type"] == domain]
        for record in records if domain == "colour" else ():
            sentences = record.pop("sentences")
            record["data"] = {
                each["gold_label"]: {"sentence": each["sentence"], "id": each["id"]} for each in sentences
            }
        paths[-1].write_text(json.dumps(records))
    assert stereoset.read(paths) == examples
    assert stereoset.read([*paths, paths[0]]) == examples


def changed(path, value):
    """Returns an edit of the records that puts `value` at a path of keys, or removes the key for KeyError."""

    def edit(content):
        at = content
        for key in path[:-1]:
            at = at[key]
        if value is KeyError:
            del at[path[-1]]
        else:
            at[path[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (changed([1, "context"], KeyError), "example 1 has no text under 'context'"),
        (changed([2, "target"], 5), "example 2 has no text under 'target'"),
        (changed([0, "context"], "No gap."), r"example 0 \(example 0\) has no BLANK"),
        (changed([0, "sentences"], {}), "has no list under 'sentences'"),
        (changed([0, "sentences", 1, "gold_label"], "related"), "has no sentence labelled"),
        (changed([0, "sentences", 0, "sentence"], "The man"), "has no word for BLANK in 'The man'"),
        (changed([0, "sentences", 0, "sentence"], "The man is --- ."), "has no word for BLANK"),
        (changed([3], "text"), "example 3 has no text under 'id'"),
    ],
)
def test_other_examples_are_refused(tmp_path, edit, complaint):
    content = copy.deepcopy(bias_benchmarks.stereoset())
    edit(content)
    (tmp_path / "dev.json").write_text(json.dumps(content))
    with pytest.raises(command.UserError, match=rf"dev.json: .*{complaint}"):
        stereoset.read([tmp_path / "dev.json"])


@pytest.mark.parametrize("text", ["", "[]", "3", '{"data": []}', '{"data": {"intrasentence": {}}}', "\xff", "[" * 9999])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "dev.json").write_text(text, encoding="latin-1")
    with pytest.raises(command.UserError, match=r"dev.json.*fetch StereoSet's file again"):
        stereoset.read([tmp_path / "dev.json"])


VALUES = strategies.one_of(strategies.none(), strategies.booleans(), strategies.integers(), strategies.text(max_size=3))


@hypothesis.given(strategies.data())
@hypothesis.settings(max_examples=80, deadline=None)
def test_a_cut_or_spoilt_file_is_refused_or_read(tmp_path_factory, data):
    content = copy.deepcopy(bias_benchmarks.stereoset())
    at = content
    while isinstance(at, list | dict) and at:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(strategies.sampled_from(keys))
        if data.draw(strategies.booleans()):
            at[key] = data.draw(VALUES)
            break
        at = at[key]
    raw = json.dumps(content).encode()
    cut = data.draw(strategies.sampled_from([len(raw), data.draw(strategies.integers(0, len(raw)))]))
    path = tmp_path_factory.mktemp("stereoset") / "dev.json"
    path.write_bytes(raw[:cut])
    try:
        examples = stereoset.read([path])
    except command.UserError:
        return
    assert cut == len(raw)
    assert all(len(example.words) == 3 and all(example.words) for example in examples)
