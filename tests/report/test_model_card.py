"""A model card: the Hub reads its metadata, all figures are measured, and its code runs."""

import json
import re
import shutil
import sys
import time

from conftest import ROOT
from helpers import optional, small_bert
import huggingface_hub
import pytest
import yaml

from bert_tpu.bias import audit
from bert_tpu.core import command
from bert_tpu.corpus import prepare
from bert_tpu.export import pytorch
from bert_tpu.finetune import finetuning
from bert_tpu.huggingface import hf, pretrained, upload
from bert_tpu.monitoring import health, hours, versions
from bert_tpu.report import card_sections, evidence, model_card
from bert_tpu.tokenizer import vocab
from tools import audit_bias, push_to_hub, report
from tools import model_card as model_card_tool

LINES = (
    {"step": 5, "kind": "train", "seq_len": 16, "loss": 9.0, "examples_per_sec": 10.0},
    {"step": 6, "kind": "train", "seq_len": 16, "loss": 9.0, "examples_per_sec": 30.0},
    {"step": 7, "kind": "train", "seq_len": 16, "loss": 9.0, "examples_per_sec": 20.0},
    {"step": 3, "kind": "eval", "seq_len": 16, "mlm_loss": 7.5, "mlm_accuracy": 0.01, "nsp_accuracy": 0.5},
    {"step": 7, "kind": "eval", "seq_len": 16, "mlm_loss": 4.25, "mlm_accuracy": 0.125, "nsp_accuracy": 0.75},
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A workdir with measurements. Its last line is cut, as after kill -9."""
    directory = small_bert.workdir(tmp_path_factory.mktemp("card") / "run")
    config = json.loads((directory / "config.json").read_text())
    config |= {"plan": {"pue": 1.5, "kgco2e_per_kwh": 0.5, "price": {}}, "num_steps": 9, "batch_size": 4}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES) + '{"step": 8, "ki')
    clock = hours.Hours(directory, writes=True, units={"TPU v4": 16}, began_s=time.monotonic() - 3600)
    clock.resume(0)
    clock.write(7)
    versions.record(directory, 0)
    return directory


@pytest.fixture(scope="module")
def model(run):
    pytorch.export(run, run.parent / "model")
    return run.parent / "model"


@pytest.fixture(scope="module", autouse=True)
def other(run):
    """An audit of other weights."""
    (run / "other").mkdir()
    (run / "other" / "bias.json").write_text('{"models": [{"weights_sha256": "c0ffee"}]}')


def output(tool, monkeypatch, capsys, *args):
    """Runs a tool with these arguments; returns what it printed."""
    monkeypatch.setattr(sys, "argv", ["tool", *map(str, args)])
    command.run(tool.main)
    return capsys.readouterr().out


def fault(tool, monkeypatch, capsys, *args):
    """Runs a tool that refuses its arguments; returns the sentence that it ends with."""
    with pytest.raises(SystemExit) as ended:
        output(tool, monkeypatch, capsys, *args)
    assert "\n" not in ended.value.code
    return ended.value.code


@pytest.mark.parametrize(("nsp_share", "step", "trained"), [(0.1, 100, True), (0.1, 90, False), (0.0, 100, False)])
def test_heads_of_pairs_that_no_step_before_the_checkpoint_trained_are_said_so(run, nsp_share, step, trained):
    config = json.loads((run / "config.json").read_text()) | {"data": {"nsp_share": nsp_share, "dir": "corpus"}}
    measured = evidence.read(run, config | {"num_steps": 100, "batch_size": 8})
    text = model_card.pretrained("m", small_bert.SECTION, measured, model_card.export_facts({}, str(step), None))
    assert ("- next-sentence-prediction" in text, "next sentence prediction (not trained)" in text) == (
        trained,
        not trained,
    )


def test_the_hub_reads_its_metadata(model):
    data = huggingface_hub.ModelCard.load(model / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "fill-mask")
    metrics = {result.metric_type: result.metric_value for result in data.eval_results}
    assert metrics == {"mlm_loss": 4.25, "mlm_accuracy": 0.125, "nsp_accuracy": 0.75}


def test_it_has_the_last_evaluation_the_median_speed_and_the_energy(run, model):
    text = (model / "README.md").read_text()
    assert "| 16 | 4.250 | 12.5% | 75.0% |" in text
    assert "16 tokens: 20 examples a second" in text
    assert f"(commit {versions.commit(ROOT)}, code {versions.current()['code']}), JAX" in text
    # 16 chips for an hour, and the moments of this test
    kwh = [16 * watts / 1000 * 1.5 for watts in (170, 192)]
    assert f"{kwh[0]:.3g} .. {kwh[1]:.3g} kWh" in text
    assert f"{kwh[0] / 2:.3g} .. {kwh[1] / 2:.3g} kg CO2e" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "that is not finite: not measured."),
        ({"skipped": 0.0}, "that is not finite: none of 7\n"),
        ({"skipped": 2.0}, "that is not finite: 6 of 7\n"),
    ],
)
def test_it_counts_the_skipped_steps_of_the_whole_run_if_they_were_counted(run, tmp_path, changes, words):
    shutil.copytree(run, tmp_path / "run")
    lines = [line | (changes if line["kind"] == "train" else {}) for line in LINES]
    (tmp_path / "run/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    measured = evidence.read(tmp_path / "run", json.loads((run / "config.json").read_text()))
    assert words in model_card.pretrained("m", small_bert.SECTION, measured, model_card.export_facts({}, "7", None))


def test_it_names_what_was_not_measured(tmp_path):
    measured = evidence.read(small_bert.workdir(tmp_path / "bare"), {"model": small_bert.SECTION})
    text = model_card.pretrained("bare", small_bert.SECTION, measured, model_card.export_facts({}, "7", None))
    sections = dict(re.findall(r"## (.+)\n\n((?:(?!\n## ).|\n)*?)(?=\n\n## |\Z)", text))
    for name in ("Training data", "Speed", "Environmental impact"):
        assert sections[name].strip() == "Not measured."
    assert sections["Evaluation"].count("not measured.") == 2
    assert "Bias: not measured." in sections["Bias, risks and limits"]
    assert "not checked against PyTorch" in text
    assert "model-index" not in text


@optional.NEEDS_PYTORCH
def test_its_code_runs(model, monkeypatch, capsys):
    monkeypatch.chdir(model.parent)
    [code] = re.findall(r"```python\n(.*?)```", (model / "README.md").read_text(), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert "token_str" in capsys.readouterr().out


@optional.NEEDS_PYTORCH
def test_later_results_are_added_and_the_facts_of_the_export_stay(run, model, tmp_path, monkeypatch, capsys):
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    start = finetuning.start_sha256(hf.load(model))
    assert start == finetuning.start_sha256(pretrained.load(run))  # of the workdir that it came from
    (tuned / "config.json").write_text(json.dumps({"task": {"name": "rte"}, "start": {"sha256": start}}))
    summary = {"mean": 0.615, "std": 0.02, "best": 0.64, "interval": [0.55, 0.66]}
    scores = {"step": 8, "seeds": {"0": {}, "1": {}, "2": {}}, "summary": {"validation": {"accuracy": summary}}}
    (tuned / "scores.json").write_text(json.dumps(scores))
    (tmp_path / "bias.md").write_text("# Bias\n\n| pairs | 52.1 |\n")
    audited = {"models": [{"weights_sha256": audit.weights_sha256(hf.load(model))}]}
    (tmp_path / "bias.json").write_text(json.dumps(audited))
    planned = {"topology": "v4:2x2x4", "chips": 16, "kgco2e_low": 1.5, "kgco2e_high": 2.25}
    (tmp_path / "plan.json").write_text(json.dumps(planned))
    before = (model / "README.md").read_text()
    output(
        model_card_tool, monkeypatch, capsys, "--model", model, "--workdir", run, "--bias", tmp_path, "--scores", tuned,
        "--plan", tmp_path / "plan.json",
    )  # fmt: skip
    after = (model / "README.md").read_text()
    for fact in (
        "| rte, validation | accuracy | 0.6150 |",
        "| pairs | 52.1 |",
        "v4:2x2x4, all 16 chips: 1.5 .. 2.25 kg",
    ):
        assert fact in after
        assert fact not in before
    [checked] = re.findall("- checked against PyTorch.*", before)
    assert checked in after
    metrics = [r.metric_type for r in huggingface_hub.ModelCard.load(model / "README.md").data.eval_results]
    assert metrics.count("accuracy") == 1


def test_names_of_any_form_leave_the_metadata_valid(run):
    measured = evidence.read(run, json.loads((run / "config.json").read_text()))
    name = 'a: "b" #c\n---\n- d'
    later = model_card.LaterResults(
        "", ((name, {"seeds": {"0": {}}, "summary": {"v": {"f1": {"mean": 0.5, "std": 0, "best": 1}}}}),), {}, {}
    )
    text = model_card.pretrained("m", small_bert.SECTION, measured, model_card.export_facts({}, "7", None), later)
    _, metadata, _ = re.split(r"^---\n", text, maxsplit=2, flags=re.MULTILINE)
    results = yaml.safe_load(metadata)["model-index"][0]["results"]
    assert results[-1]["dataset"]["name"] == name


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--bias", "nowhere"], "there is no nowhere/bias.json: write it"),
        (["--bias", "{run}/other"], "is the audit of another model"),
        (["--scores", "{run}"], "is not a fine-tuning's workdir"),
        (["--scores", "{tuned}"], "is a fine-tuning of /models/base, which has other weights than --model"),
        (["--plan", "{run}/metrics.jsonl"], "of another kind"),
    ],
)
def test_files_of_another_kind_are_refused(run, model, tmp_path, monkeypatch, capsys, flags, words):
    other = {"task": {"name": "rte"}, "init_from": "/models/base", "start": {"sha256": "0" * 64}}
    (tmp_path / "config.json").write_text(json.dumps(other))
    before = (model / "README.md").read_bytes()
    flags = [flag.format(run=run, tuned=tmp_path) for flag in flags]
    assert words in fault(model_card_tool, monkeypatch, capsys, "--model", model, "--workdir", run, *flags)
    assert (model / "README.md").read_bytes() == before


def test_another_run_s_workdir_is_refused(run, model, tmp_path, monkeypatch, capsys):
    before = (model / "README.md").read_bytes()
    config = json.loads((run / "config.json").read_text())
    config["seed"] = 9
    (tmp_path / "config.json").write_text(json.dumps(config))
    sentence = fault(model_card_tool, monkeypatch, capsys, "--model", model, "--workdir", tmp_path)
    assert sentence.endswith(f"{model} was not exported from {tmp_path}: give the workdir that it came from")
    assert (model / "README.md").read_bytes() == before


def test_a_card_of_another_author_is_refused(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    assert "was not written by bert-tpu export" in fault(
        model_card_tool, monkeypatch, capsys, "--model", tmp_path, "--workdir", run
    )


def test_pushing_prints_its_plan_without_a_network(model, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "HfApi", None)  # any use of the network fails
    printed = output(push_to_hub, monkeypatch, capsys, "--model", model, "--repo", "me/bert")
    assert "model.safetensors" in printed
    assert f"{len(list(model.iterdir()))} files" in printed


def test_pushing_takes_the_token_from_the_environment_alone(model, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert "HF_TOKEN is not set" in fault(
        push_to_hub, monkeypatch, capsys, "--model", model, "--repo", "me/b", "--push"
    )


@pytest.mark.parametrize(
    ("repo", "words"), [("bert", "give USER/NAME"), ("me/a..b", "--repo me/a..b"), ("a/b/c", "--repo")]
)
def test_a_name_that_the_hub_would_refuse_is_refused_here(model, monkeypatch, capsys, repo, words):
    assert words in fault(push_to_hub, monkeypatch, capsys, "--model", model, "--repo", repo)


def test_half_an_export_is_not_pushed(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert "model.safetensors" in fault(push_to_hub, monkeypatch, capsys, "--model", tmp_path, "--repo", "me/b")


def test_cut_weights_are_not_pushed(model, tmp_path, monkeypatch, capsys):
    cut = shutil.copytree(model, tmp_path / "cut")
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[:-1])
    assert "model.safetensors is not sound" in fault(push_to_hub, monkeypatch, capsys, "--model", cut, "--repo", "me/b")


def test_a_file_of_another_kind_is_refused_as_a_plan(run, model, tmp_path, monkeypatch, capsys):
    (tmp_path / "plan.json").write_text('{"a": 1}')
    args = "--model", model, "--workdir", run, "--plan", tmp_path / "plan.json"
    assert ": give a file with the output of bert-tpu plan --json" in fault(model_card_tool, monkeypatch, capsys, *args)


@pytest.mark.parametrize("name", ["hours.json", "health.json"])
def test_a_damaged_file_of_a_run_is_named(name, tmp_path):
    (tmp_path / name).write_text('{"a')
    with pytest.raises(command.UserError, match=f"{name} is damaged"):
        evidence.read(tmp_path, {}) if name == "hours.json" else health.read(tmp_path)


FOLDERS = "ada-lovelace", "secret-project", "their-texts"


@pytest.fixture(scope="module")
def private(text_file, tmp_path_factory):
    """A home directory with texts, a corpus, a workdir, and its export with the results of all tools."""
    home = tmp_path_factory.mktemp("home").joinpath(*FOLDERS)
    home.mkdir(parents=True)
    shutil.copy(text_file, home / "novel.txt")
    vocab.save(small_bert.VOCAB, home / "tokenizer")
    lock = prepare.prepare([str(home / "novel.txt")], home / "tokenizer", home / "corpus", heldout=0.1, workers=1)
    run = small_bert.workdir(home / "run")
    config = json.loads((run / "config.json").read_text())
    config |= {"corpus": {"sha256": lock.sha256}, "data": {"dir": str(lock.directory), "seq_lens": [16]}}
    config |= {
        "compile_cache": str(home / "cache"),
        "init_from": str(home / "old"),
        "num_steps": 7,
        "batch_size": 4,
        "optim": {"warmup_steps": 1},
    }
    (run / "config.json").write_text(json.dumps(config))
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    pytorch.export(run, home / "model")
    (home / "benchmarks").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for tool, words in (
            (audit_bias, f"--model={home}/model --model={run} --data={home}/benchmarks --out={home}/audit"),
            (model_card_tool, f"--model={home}/model --workdir={run} --bias={home}/audit"),
            (report, f"--workdir={run} --compare {run} --out={home}/model/report.html"),
        ):
            patch.setattr(sys, "argv", ["tool", *words.split()])
            command.run(tool.main)
    shutil.copy(home / "audit" / "bias.json", home / "model")
    return home


def test_uploaded_files_do_not_contain_folders_of_the_author(private):
    card = (private / "model" / "README.md").read_text()
    assert "- sources: novel.txt\n" in card
    assert "skipped, there is no" in card
    assert "old" in (private / "model" / "report.html").read_text()  # where it started
    for path in upload.files(private / "model"):
        content = path.read_bytes()
        assert not [folder for folder in (*FOLDERS, str(private.parent)) if folder.encode() in content], path


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("/home/ada/texts/novel.txt", "novel.txt"), ("~/models/mine/", "mine"), ("gs://bucket/ada/x.gz", "x.gz"),
        ("../ada/model", "model"), ("label", "label"), (128, 128), ("tfds:glue/rte", "tfds:glue/rte"),
        ("tfds:pg19:1.0?feature=book_text&data_dir=gs://ada/tfds", "tfds:pg19:1.0?feature=book_text"),
        ("tfds:pg19?data_dir=/home/ada/tfds", "tfds:pg19"),
    ],
)  # fmt: skip
def test_the_last_part_of_a_path_is_public_and_a_public_name_is_whole(value, part):
    assert card_sections.public(value) == part
