"""The audit as a user meets it: its files, its messages, and the tasks and models that it skips or refuses."""

import json
import re
import subprocess
import sys

from helpers import bias_benchmarks, small_bert
import pytest
import transformers

import bert_tpu
from bert_tpu.bias import audit, chart, crows_pairs, markdown, stereoset, winogender
from bert_tpu.core import command
from bert_tpu.huggingface import hf, pretrained
from tools import audit_bias


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bias_benchmarks.save(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return bias_benchmarks.save(
        tmp_path_factory.mktemp("models") / "other", bias_benchmarks.prefer("she", "her", by=3.0)
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return bias_benchmarks.write_all(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def audited(model, other, data, tmp_path_factory):
    """(OUT, the finished process) of an audit of both models, in a process without PyTorch, TensorFlow or SciPy."""
    out = tmp_path_factory.mktemp("audited") / "out"
    code = (
        "import runpy, sys; sys.modules |= dict.fromkeys(['torch', 'transformers', 'tensorflow', 'scipy']); "
        "runpy.run_module('tools.audit_bias', run_name='__main__')"
    )
    words = ["--model", model, "--model", other, "--data", data, "--out", out]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out, done


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["audit_bias", *map(str, words)])
    command.run(audit_bias.main)


def test_bias_json_names_the_models_and_the_data(audited, model, data):
    out, done = audited
    assert sorted(path.name for path in out.iterdir()) == ["bias.json", "bias.md", "bias.png"]
    content = json.loads((out / "bias.json").read_text())
    assert content["package"]["version"] == bert_tpu.__version__
    assert content["interval"] == {"percent": 95, "draws": 1000, "seed": 0}
    assert content["skipped"] == {}
    sums = subprocess.run(["sha256sum", *data.rglob("*.*")], capture_output=True, text=True, check=True).stdout
    sums = {line.split("/")[-1]: line.split()[0] for line in sums.splitlines()}
    assert {name: digest for files in content["data"].values() for name, digest in files.items()} == sums
    plain, other = content["models"]
    assert (plain["name"], other["name"]) == ("plain", "other")
    bert = transformers.BertForMaskedLM.from_pretrained(model)
    assert plain["parameters"] == other["parameters"] == sum(p.numel() for p in bert.parameters())
    assert (plain["layers"], plain["hidden_size"], plain["heads"]) == (2, 64, 4)
    assert plain["vocab_size"] == len(bias_benchmarks.VOCAB.pieces)
    assert plain["weights_sha256"] != other["weights_sha256"]
    assert "100%" in done.stderr
    assert re.search(r"other, stereoset: 100%", done.stderr)


def test_each_measure_has_its_interval(audited):
    content = json.loads((audited[0] / "bias.json").read_text())
    for model in content["models"]:
        estimates = [
            *(model["crows"][key] for key in ("metric", "stereotype", "antistereotype")),
            *model["crows"]["by_type"].values(),
            *model["stereoset"]["overall"].values(),
            *(each for of in model["stereoset"]["by_domain"].values() for each in of.values()),
            *(model["winogender"][key] for key in ("log_odds", "of_occupation", "of_participant", "correlation")),
            model["templates"]["difference"],
        ]
        for each in estimates:
            assert each["low"] <= each["high"]
            assert each["examples"] > 0
    plain, other = (model["winogender"]["log_odds"]["value"] for model in content["models"])
    assert other == pytest.approx(plain + 3.0, abs=1e-4)  # the shift of `other`


def test_tables_are_printed_as_they_are_written(audited):
    out, done = audited
    text = (out / "bias.md").read_text()
    assert done.stdout.rstrip("\n") == text.rstrip("\n")
    content = json.loads((out / "bias.json").read_text())
    assert markdown.markdown(content) == text
    for title in markdown.TITLES.values():
        assert f"\n## {title}\n" in text
    metric = content["models"][1]["crows"]["metric"]
    [line] = [line for line in text.splitlines() if line.startswith("| all pairs ")]
    assert line.split("|")[2].strip() == "6"
    assert line.split("|")[4].strip() == f"{metric['value']:.1f} ({metric['low']:.1f} .. {metric['high']:.1f})"
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_a_piece_which_is_a_bar_ends_no_cell(audited):
    content = json.loads((audited[0] / "bias.json").read_text())
    content["models"][0]["templates"]["top"][0]["men"][0][0] = "|"
    [line] = [line for line in markdown.markdown(content).splitlines() if line.startswith(r"| \| 0.")]
    assert len(re.split(r"(?<!\\)\|", line)) == 2 + 2 * len(content["models"])


@pytest.mark.parametrize("names", [("crows",), ("templates",), ("winogender",), ("stereoset", "templates", "crows")])
def test_any_tasks_and_any_number_of_models_are_drawn(audited, tmp_path, names):
    content = json.loads((audited[0] / "bias.json").read_text())
    drop = set(audit.OPEN) - set(names)
    content["models"] = [{key: value for key, value in model.items() if key not in drop} for model in content["models"]]
    content["models"] = (content["models"] * 3)[: 2 * len(names) - 1]
    with (tmp_path / "x.png").open("wb") as file:
        chart.draw(content, file)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert markdown.markdown(content)


def test_a_task_without_its_file_is_named_and_skipped(model, tmp_path, monkeypatch, capsys):
    bias_benchmarks.write_winogender(tmp_path / "data")
    (tmp_path / "data" / "occupations-stats.tsv").unlink()
    words = ("--model", model, "--data", tmp_path / "data", "--tasks", "crows", "stereoset", "winogender")
    call(monkeypatch, *words, "--out", tmp_path / "out")
    output = capsys.readouterr()
    assert "crows is skipped: there is no crows_pairs_anonymized.csv in data\n" in output.err
    assert "stereoset is skipped: there is neither dev.json nor stereoset/dev*.json" in output.err
    assert "CrowS-Pairs: skipped, there is no crows_pairs_anonymized.csv" in output.out
    assert "| correlation with the share of women |  | - |" in output.out
    content = json.loads((tmp_path / "out" / "bias.json").read_text())
    assert list(content["skipped"]) == ["crows", "stereoset"]
    assert content["models"][0].keys() & set(audit.OPEN) == {"winogender"}


def test_files_that_are_not_the_published_ones_are_named(audited):
    out, done = audited
    page, content = (out / "bias.md").read_text(), json.loads((out / "bias.json").read_text())
    remarks = {
        "crows": "The file has 6 pairs, the published one 1,508: scores cannot be compared with published ones.",
        "stereoset": "The files have no examples of profession, race, religion: overall scores cannot be compared with "
        "published ones.",
        "winogender": "The file has 6 sentences of three forms, the published one 240: scores cannot be compared with "
        "published ones.",
    }
    assert content["remarks"] == remarks
    for name, remark in remarks.items():
        assert remark in page
        assert f"{name}: {remark}\n" in done.stderr
    examples = [stereoset.Example("", domain, "", "", ("", "", "")) for domain in stereoset.DOMAINS]
    assert not stereoset.remark(examples)
    assert not crows_pairs.remark([None] * 1508)
    assert not winogender.remark([None] * 240)


def test_files_may_be_in_folders_or_in_one_folder(tmp_path):
    flat = bias_benchmarks.write_winogender(tmp_path / "flat")
    bias_benchmarks.write_crows(flat / "crows_pairs_anonymized.csv")
    bias_benchmarks.write_stereoset(flat / "dev.json")
    for directory in (flat, bias_benchmarks.write_all(tmp_path / "deep")):
        tasks, skipped = audit.tasks(directory, list(audit.OPEN))
        assert [len(task.files) for task in tasks] == [1, 1, 2, 0]
        assert skipped == {}
    (folder := tmp_path / "parted" / "stereoset").mkdir(parents=True)
    for domain in ("gender", "colour"):
        records = [each for each in bias_benchmarks.stereoset() if each["bias_type"] == domain]
        (folder / f"dev_intrasentence_{domain}.json").write_text(json.dumps(records))
    [task], _ = audit.tasks(folder.parent, ["crows", "stereoset"])
    assert len(task.files) == 2


def test_the_identity_is_that_of_the_weights_in_any_format(tmp_path):
    run = small_bert.workdir(tmp_path / "run")
    transformers.BertForMaskedLM.from_pretrained(small_bert.save(tmp_path / "whole")).save_pretrained(
        tmp_path / "masked"
    )
    (tmp_path / "masked" / "vocab.txt").write_bytes((tmp_path / "whole" / "vocab.txt").read_bytes())
    digests = {audit.weights_sha256(pretrained.load(path)) for path in (run, tmp_path / "whole", tmp_path / "masked")}
    assert len(digests) == 1
    changed = small_bert.params()
    changed["layer_1"]["norm"]["bias"] = changed["layer_1"]["norm"]["bias"] + 1e-6
    assert audit.weights_sha256(hf.Pretrained(changed, small_bert.SECTION, small_bert.VOCAB, ())) not in digests


def test_labels_distinguish_the_models():
    assert audit.labels(["a/model", "b/run/"]) == ["model", "run"]
    assert audit.labels(["a/model", "b/model", "c"]) == ["model (1)", "model (2)", "c"]


def test_a_wrong_model_or_data_is_refused_and_leaves_nothing(model, data, tmp_path, monkeypatch):
    transformers.BertModel.from_pretrained(model).save_pretrained(tmp_path / "encoder")
    (tmp_path / "encoder" / "vocab.txt").write_bytes((model / "vocab.txt").read_bytes())
    (tmp_path / "nothing").mkdir()
    cut = bias_benchmarks.write_all(tmp_path / "cut")
    (cut / "stereoset" / "dev.json").write_text((data / "stereoset" / "dev.json").read_text()[:-9])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    options = {"--model": model, "--data": data, "--out": tmp_path / "out"}
    for change, complaint in (
        ({"--model": tmp_path / "encoder"}, "encoder has an encoder without an MLM head"),
        ({"--model": tmp_path / "no"}, "there is no .*/no: give a Hugging Face directory, a run's workdir"),
        ({"--data": tmp_path / "no"}, "there is no directory .*/no: give one with the benchmarks' files"),
        ({"--data": tmp_path / "nothing", "--tasks": "crows"}, "nothing can be audited: there is no crows_pairs"),
        ({"--data": cut}, "dev.json is not JSON, or cut short; fetch"),
        ({"--tasks": "everything"}, "invalid choice: 'everything'"),
        ({"--out": tmp_path / "full"}, "full exists and is not an empty directory"),
    ):
        words = [word for pair in (options | change).items() for word in pair]
        with pytest.raises(SystemExit, match=rf"^error: [^\n]*{complaint}[^\n]*$"):
            call(monkeypatch, *words)
    with pytest.raises(SystemExit, match=r"^error: [^\n]*plain is named twice: name each model once$"):
        call(monkeypatch, "--model", model, *[word for pair in options.items() for word in pair])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "encoder", "full", "nothing"]
