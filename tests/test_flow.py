"""The whole flow on a small text, by the commands that a user types."""

import hashlib
import html
import json
import os
import shutil

from helpers import quick_xla, warm_processes
import pytest

from bert_tpu.export import onnx_files

SMALL = [
    f"--config.{key}={value}"
    for key, value in {
        "model.vocab_size": 400, "model.hidden_size": 32, "model.num_layers": 1, "model.num_heads": 1,
        "model.intermediate_size": 64, "batch_size": 16, "num_steps": 40, "optim.warmup_steps": 20,
        "eval.every_steps": 20, "eval.num_batches": 2,
        "checkpoint.every_steps": 20, "log.every_steps": 10, "data.seq_lens": "(32,64)",
        "data.max_predictions": "(5,10)",
    }.items()
]  # fmt: skip


def run(*command, code=0):
    """Returns standard output and errors of `python -m command`, which must exit with `code`."""
    env = os.environ | {"XLA_FLAGS": quick_xla.flags(devices=1), "PYTHONPATH": ""}  # one device, as on a laptop
    done = warm_processes.run(command[0], command[1:], env=env)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def flow(text_file, tmp_path_factory):
    """A folder with tokenizer, corpus, run and model, written by the commands."""
    root = tmp_path_factory.mktemp("flow")
    run("tools.train_tokenizer", "--input", text_file, "--vocab_size", 400, "--out", root / "tokenizer")
    run(
        "tools.prepare_corpus", "--input", text_file, "--tokenizer", root / "tokenizer", "--out", root / "corpus",
        "--heldout", 0.1,
    )  # fmt: skip
    _, errors = run(*pretrain(root, "run"))
    (root / "errors").write_text(errors)
    run("tools.export_pytorch", "--workdir", root / "run", "--out", root / "model")
    return root


def pretrain(root, name, *flags):
    """Returns the command of a pretraining run in the workdir root/name."""
    return (
        "bert_tpu.pretrain", "--config", "configs/demo.py", f"--config.data.dir={root / 'corpus'}",
        f"--config.compile_cache={root / 'cache'}", "--workdir", root / name, *SMALL, *flags,
    )  # fmt: skip


def metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_the_loss_falls(flow):
    evaluations = [line for line in metrics(flow / "run") if line["kind"] == "eval" and line["seq_len"] == 32]
    assert [line["step"] for line in evaluations] == [20, 40]
    assert evaluations[1]["mlm_loss"] < evaluations[0]["mlm_loss"]


def test_a_run_prints_only_its_own_lines(flow):
    ours = ("step ", "1 x cpu", "0 h ")  # lines of the steps, the start and the hours
    slow = ("is waiting for input", "still compiling")  # a busy machine may print these
    short = "warning: rows of 32 do not show "  # true of this text
    lines = (flow / "errors").read_text().splitlines()
    assert [
        line for line in lines if not line.startswith((*ours, short)) and not any(words in line for words in slow)
    ] == []


def test_the_export_has_the_hubs_names(flow):
    assert {path.name for path in (flow / "model").iterdir()} == {
        "model.safetensors", "config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json", "README.md",
    }  # fmt: skip


def test_masks_are_filled(flow):
    output, _ = run("tools.fill_mask", "--model", flow / "model", "Ba be [MASK] bi.")
    assert "[MASK]" in output
    _, fault = run("tools.fill_mask", "--model", flow / "model", "no mask here", code=1)
    assert fault.startswith("error: ")
    assert fault.count("\n") == 1


def test_an_export_comes_back_bit_for_bit_and_trains_on(flow):
    run("tools.import_pytorch", "--model", flow / "model", "--out", flow / "imported")
    run("tools.export_pytorch", "--workdir", flow / "imported", "--out", flow / "again")
    one, other = (
        hashlib.sha256((flow / name / "model.safetensors").read_bytes()).hexdigest() for name in ("model", "again")
    )
    assert one == other
    run(*pretrain(flow, "continued", f"--config.init_from={flow / 'imported'}", "--config.num_steps=20"))
    first, last = metrics(flow / "run"), metrics(flow / "continued")
    assert last[0]["mlm_loss"] < first[0]["mlm_loss"]  # it did not start from scratch


def test_batches_can_be_shown(flow):
    command = ("tools.show_batches", "--config", "configs/demo.py", f"--config.data.dir={flow / 'corpus'}", *SMALL)
    output, _ = run(*command, "--steps", "38:40", "--rows", "1", "--json")
    lines = [json.loads(line) for line in output.splitlines()]
    assert [(line["step"], line["seq_len"], len(line["rows"])) for line in lines] == [(38, 32, 1), (39, 64, 1)]
    assert set(lines[0]["rows"][0]) == {
        "input_ids", "token_type_ids", "attention_mask", "masked_positions", "masked_ids", "next_sentence_label",
    }  # fmt: skip
    output, _ = run(*command, "--steps", "38:40", "--rows", "0", "--json", "--hosts", "2")
    assert [json.loads(line)["sha256"] for line in output.splitlines()] == [line["sha256"] for line in lines]
    output, _ = run(*command, "--steps", "0")
    assert "B is random" in output
    assert "[MASK](" in output


def test_curves_are_drawn(flow, tmp_path):
    curve = flow / "new" / "curve.png"
    run("tools.plot_metrics", "--workdir", flow / "run", "--corpus", flow / "corpus", "--out", curve)
    assert curve.read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in (flow / "run" / "metrics.jsonl").read_text().splitlines()]
    for pairs_from in (20, 1000):  # as with data.nsp_share, and without NSP
        for line in lines:
            if line["step"] < pairs_from:
                line.pop("nsp_accuracy", None)
        (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        output, _ = run("tools.plot_metrics", "--workdir", tmp_path, "--out", tmp_path / f"{pairs_from}.png")
        assert f": {len(lines)} lines of " in output


def test_files_of_another_run_are_refused(flow, tmp_path):
    shutil.copy(flow / "run" / "metrics.jsonl", tmp_path)
    config = json.loads((flow / "run" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"corpus": {"sha256": "c0ffee"}}))
    plot = ("tools.plot_metrics", "--workdir", tmp_path, "--corpus", flow / "corpus", "--out", tmp_path / "curve.png")
    _, errors = run(*plot, code=1)
    assert errors.startswith(f"error: {tmp_path} did not read the corpus in {flow / 'corpus'}: ")
    assert not (tmp_path / "curve.png").exists()
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "kind": "eval", "split": "validation", "accuracy": 0.5}\n')
    _, errors = run(*plot, code=1)
    assert errors.startswith(f"error: {tmp_path}/metrics.jsonl, line 1, is not a pretraining's: ")
    assert not (tmp_path / "curve.png").exists()
    args = ("--config", "configs/glue.py:rte", f"--config.data.dir={flow / 'corpus'}")
    _, errors = run("tools.show_batches", *args, code=1)
    assert errors.startswith("error: config configs/glue.py:rte is for bert-tpu finetune: ")


def test_a_run_has_its_report(flow):
    output, _ = run("tools.report", "--workdir", flow / "run")
    assert output.startswith(f"{flow / 'run' / 'report.html'}: ")
    text = (flow / "run" / "report.html").read_text()
    assert text.count("<figure>") == 8
    assert "Finished: step 40 of 40." in text
    first, last = map(json.loads, (flow / "run" / "samples.jsonl").read_text().splitlines())
    assert [line["step"] for line in (first, last)] == [20, 40]
    assert all(html.escape(row["text"]) in text for row in last["samples"])


def test_onnx_scores_as_the_run_did(flow):
    """The scores agree on all of the run's own evaluation rows."""
    scores = onnx_files.write(flow / "model", flow / "run", rows=10_000)["files"][0]["scores"]
    lines = [json.loads(line) for line in (flow / "run" / "metrics.jsonl").read_text().splitlines()]
    last = {line["seq_len"]: line for line in lines if line["kind"] == "eval"}
    names = "mlm_loss", "mlm_accuracy", "nsp_accuracy"
    expected = {f"{name} {seq_len}": line[name] for seq_len, line in last.items() for name in names}
    assert scores == pytest.approx(expected, abs=2e-3)
    run("tools.model_card", "--model", flow / "model", "--workdir", flow / "run")
    text = (flow / "model" / "README.md").read_text()
    assert "| model_q4.onnx | 4-bit |" in text
    assert "\n- sources: text.txt\n- cleaning: " in text
