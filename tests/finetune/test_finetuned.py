"""An exported fine-tuned model predicts in transformers what its run predicted; a run can start from it."""

import json
import shutil
import sys

from helpers import damage, small_bert, tiny_finetunings
import numpy as np
import pytest
import torch
import transformers

from bert_tpu.core import command
from bert_tpu.export import onnx_files, pytorch
from bert_tpu.finetune import finetuned
from bert_tpu.huggingface import config_json, pretrained, upload
from bert_tpu.monitoring import scores_file
from bert_tpu.training import workdir
from tools import export_pytorch

HEADS = ("classify", "regress", "tag", "span")


class Exported:
    """A run, and the export of its seed 1, which is not its first."""

    def __init__(self, folder, head):
        self.head, self.run, self.model = head, tiny_finetunings.run(folder, head), folder / "exported"
        self.export = pytorch.export(self.run, self.model, seed=1)

    def answers(self, name):
        return (self.run / "predictions" / "seed1" / name).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Function head -> Exported, which runs when it is first needed."""
    runs = {}

    def make(head):
        if head not in runs:
            runs[head] = Exported(tmp_path_factory.mktemp(head), head)
        return runs[head]

    return make


def transformers_outputs(run, use, **options):
    return transformers.pipeline(use, str(run.model), device="cpu")(list(tiny_finetunings.TEXTS), **options)


def test_text_classification_predicts_what_the_run_predicted(exported):
    classify = exported("classify")
    lines = [line.split("\t") for line in classify.answers("validation.tsv").splitlines()]
    for row, outputs in zip(lines[1:], transformers_outputs(classify, "text-classification", top_k=None), strict=True):
        chances = {
            name.removeprefix("probability of "): float(x) for name, x in zip(lines[0][2:], row[2:], strict=True)
        }
        assert {each["label"]: each["score"] for each in outputs} == pytest.approx(chances, abs=2e-5)
        assert outputs[0]["label"] == row[1]
    config = transformers.AutoConfig.from_pretrained(classify.model)
    assert config.label2id == {"no": 0, "peut-être": 1, "yes": 2}
    assert (config.problem_type, config.num_labels) == ("single_label_classification", 3)


def test_regression_predicts_what_the_run_predicted(exported):
    regress = exported("regress")
    predictions = [float(line.split("\t")[1]) for line in regress.answers("validation.tsv").splitlines()[1:]]
    outputs = transformers_outputs(regress, "text-classification")
    assert [each["score"] for each in outputs] == pytest.approx(predictions, abs=2e-5)
    assert {each["label"] for each in outputs} == {"label"}
    config = transformers.AutoConfig.from_pretrained(regress.model)
    assert (config.problem_type, config.num_labels) == ("regression", 1)


def test_token_classification_predicts_what_the_run_predicted(exported):
    tag = exported("tag")
    tags = [line.split()[1] for line in tag.answers("validation.txt").splitlines() if line]
    assert set(tags) == {"O", "B-X"}
    outputs = []
    for text, tokens in zip(
        tiny_finetunings.TEXTS, transformers_outputs(tag, "token-classification", ignore_labels=[]), strict=True
    ):
        starts = np.cumsum([0, *(len(word) + 1 for word in text.split())])
        outputs += [token["entity"] for token in tokens if token["start"] in starts]
    assert outputs == tags


def test_question_answering_predicts_what_the_run_predicted(exported):
    span = exported("span")
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(span.model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(span.model)
    best = json.loads(span.answers("nbest_predictions.json"))
    for i, text in enumerate(tiny_finetunings.TEXTS[: len(tiny_finetunings.PLACES)]):
        inputs = tokenizer("what is it?", text, return_tensors="pt", return_offsets_mapping=True)
        offsets = inputs.pop("offset_mapping")[0]
        with torch.no_grad():
            outputs = model(**inputs)
        in_text = inputs["token_type_ids"][0].bool()
        start, end = (
            int(torch.where(in_text, logits[0], -1e9).argmax()) for logits in (outputs.start_logits, outputs.end_logits)
        )
        assert text[offsets[start][0] : offsets[end][1]] == best[str(i)][0]["text"]
        logits = [float(outputs.start_logits[0, start]), float(outputs.end_logits[0, end])]
        assert logits == pytest.approx([best[str(i)][0][name] for name in ("start_logit", "end_logit")], abs=2e-5)


@pytest.mark.parametrize("head", HEADS)
def test_export_says_what_it_is(exported, head):
    each = exported(head)
    checked = each.export.comparison
    assert 0 < checked.difference < 1e-5
    config = workdir.read_config(each.run)
    readme = (each.model / "README.md").read_text(encoding="utf-8")
    scores = json.loads((each.run / scores_file.FILE).read_text())["seeds"]["1"]["validation"]
    facts = [
        config["task"]["name"], config["task"]["sha256"]["train"], "- base model: model\n",
        f"{tiny_finetunings.STEPS} steps",
        "seed: 1, as asked for", f"{checked.difference:.1e}", each.export.name,
        *(f"{name} {score:.4g}" for name, score in scores.items()),
    ]  # fmt: skip
    for fact in facts:
        assert fact in readme
    assert json.loads((each.model / "config.json").read_text())["architectures"] == [each.export.name]


@pytest.mark.parametrize("head", HEADS)
def test_no_folder_above_data_or_base_model_is_in_what_is_uploaded(exported, head):
    each = exported(head)
    typed = json.dumps(workdir.read_config(each.run))
    assert str(each.run.parent) in typed  # its model and its data are there
    for path in upload.files(each.model):
        content = path.read_bytes()
        assert not [part for part in each.run.parent.parts[2:] if part.encode() in content], path


@pytest.mark.parametrize(
    ("head", "edit", "complaint"),
    [
        ("classify", lambda t: t["classifier.weight"].__setitem__((1, 3), 1.0), "classify logits differ by up to"),
        ("classify", lambda t: t.pop("bert.pooler.dense.weight"), "missing_keys.*pooler.dense.weight"),
        ("regress", lambda t: t["classifier.bias"].__iadd__(1e-3), r"regress logits differ by up to 0.001\b"),
        ("tag", lambda t: t["classifier.weight"].__iadd__(np.nan), "tag logits differ by up to nan"),
        ("tag", lambda t: t.update({"bert.pooler.dense.bias": np.ones(64, np.float32)}), "unexpected_keys.*pooler"),
        ("span", lambda t: t["qa_outputs.bias"].__setitem__(1, 2.0), "span logits differ by up to"),
        ("span", lambda t: t.update({"classifier.bias": t.pop("qa_outputs.bias")}), "missing_keys.*qa_outputs.bias"),
    ],
)
def test_wrong_weights_are_not_exported(exported, tmp_path, monkeypatch, head, edit, complaint):
    run = exported(head).run  # before anything is spoilt
    small_bert.spoil(monkeypatch, edit)
    with pytest.raises(command.UserError, match=complaint):
        pytorch.export(run, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_scores_that_are_cut_or_foreign_are_refused_in_a_sentence(exported, tmp_path):
    directory = shutil.copytree(exported("classify").run, tmp_path / "run")
    path = directory / scores_file.FILE
    refused = damage.read_or_refused(lambda: scores_file.read(directory), path)
    assert refused > path.stat().st_size - 2
    path.write_text(path.read_text()[:9])
    with pytest.raises(command.UserError, match=r"scores.json is damaged"):
        finetuned.load(directory, workdir.read_config(directory))


def test_each_seed_is_its_own_and_the_best_is_the_default(exported, tmp_path):
    run = shutil.copytree(exported("classify").run, tmp_path / "run")
    config, path = workdir.read_config(run), run / scores_file.FILE
    content = json.loads(path.read_text())

    def judged(**changes):
        path.write_text(json.dumps(content | changes))
        return finetuned.load(run, config)

    def of(three, one):
        return {
            "3": {"validation": {"accuracy": three, "f1": one}},
            "1": {"validation": {"accuracy": one, "f1": three}},
        }

    assert judged(seeds=of(0.5, 0.75))[-3:] == (1, "the best of 2 by accuracy on validation, 0.75", of(0.5, 0.75)["1"])
    assert judged(seeds=of(0.75, 0.5)).seed == 3
    assert judged(seeds=of(0.5, 0.5)).seed == 3
    assert judged(seeds=of(np.nan, 0.5)).seed == 1
    for unjudged in (judged(step=tiny_finetunings.STEPS - 1, seeds=of(0.5, 0.75)), judged(seeds={"3": {}, "1": {}})):
        assert unjudged[-3:] == (3, "the first of 2, as none was judged at this step", {})
    path.unlink()
    first, other = finetuned.load(run, config), finetuned.load(run, config, 1)
    assert (first.seed, other.seed) == (3, 1)
    assert not np.array_equal(first.params["head"]["kernel"], other.params["head"]["kernel"])


def test_command_says_which_seed_it_took(exported, tmp_path, monkeypatch, capsys):
    argv = ["export", "--workdir", exported("classify").run, "--out", tmp_path / "out", "--seed", 1]
    monkeypatch.setattr(sys, "argv", list(map(str, argv)))
    command.run(export_pytorch.main)
    assert f"out: BertForSequenceClassification from {exported('classify').run}" in (output := capsys.readouterr().out)
    assert f"checkpoints/{tiny_finetunings.STEPS} (seed 1, as asked for); logits differ by at most" in output


def test_a_seed_that_is_not_there_is_refused(exported, tmp_path):
    with pytest.raises(command.UserError, match="has no seed 7: give one of 3, 1"):
        pytorch.export(exported("classify").run, tmp_path / "out", seed=7)
    pretraining = small_bert.workdir(tmp_path / "run")
    with pytest.raises(command.UserError, match="leave out --seed"):
        pytorch.export(pretraining, tmp_path / "out", seed=0)


@pytest.mark.parametrize("head", HEADS)
def test_one_can_start_from_the_exported_encoder(exported, head):
    each = exported(head)
    loaded = pretrained.load(each.model)
    tree = finetuned.load(each.run, workdir.read_config(each.run), 1).params
    assert loaded.absent == (("mlm", "nsp") if head in ("classify", "regress") else ("pooler", "mlm", "nsp"))
    assert loaded.model == small_bert.SECTION | config_json.HERE
    assert loaded.vocab == small_bert.VOCAB
    np.testing.assert_array_equal(loaded.params["layer_1"]["up"]["kernel"], tree["layers"]["up"]["kernel"][1])


def test_a_fine_tuning_is_no_model_to_start_from(exported):
    with pytest.raises(command.UserError, match=r"a model for each seed: export one, bert-tpu export"):
        pretrained.load(exported("classify").run)


@pytest.mark.parametrize("head", HEADS)
def test_onnx_scores_as_the_run_did(exported, head):
    tuned = exported(head)
    scores = json.loads((tuned.run / "scores.json").read_text())["seeds"]["1"]
    costs = onnx_files.write(tuned.model, tuned.run)
    assert costs["files"][0]["scores"] == pytest.approx(next(iter(scores.values())), abs=1e-4)
    assert [each["form"] for each in costs["files"]] == list(onnx_files.FORMS)


def test_onnx_is_scored_on_the_rows_that_the_run_was_judged_on_alone(exported, tmp_path):
    classify = exported("classify")
    run, model = shutil.copytree(classify.run, tmp_path / "run"), shutil.copytree(classify.model, tmp_path / "model")
    shutil.rmtree(model / onnx_files.FOLDER, ignore_errors=True)
    config = json.loads((run / "config.json").read_text())
    changed = tmp_path / "changed.jsonl"
    with pytest.raises(command.UserError, match="run is a fine-tuning, which is scored on all rows of a split"):
        onnx_files.write(model, run, rows=5)
    with open(config["data"]["validation"]) as file:
        changed.write_text(file.read().replace("the cat", "a cat"))
    config["data"]["validation"] = str(changed)
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        command.UserError, match="run was trained on other data than is there now: give another --workdir"
    ):
        onnx_files.write(model, run)
    assert not (model / onnx_files.FOLDER).exists()
