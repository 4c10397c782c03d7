"""Each objective trains, and its losses and metrics reach the lines, the health checks and the reports of a run."""

import json
import shutil

from etils import epath
from helpers import small_bert, tiny_runs
import jax
import numpy as np
import pytest

from bert_tpu.core import command, config
from bert_tpu.model import param_layout, transformer
from bert_tpu.monitoring import health, metrics
from bert_tpu.pretrain import mlm, mlm_nsp, objectives, pretraining
from bert_tpu.report import card_sections, curves, model_card, page
from bert_tpu.report import run as runs
from bert_tpu.training import saved_params


@pytest.fixture(scope="module")
def mlm_run(corpus_dir, tmp_path_factory):
    """The workdir of a run without next sentence prediction."""
    cfg = tiny_runs.configured(tiny_runs.keys(corpus_dir, tmp_path_factory), num_steps=12).unlock()
    cfg.objective = "mlm"
    directory = tmp_path_factory.mktemp("mlm")
    assert pretraining.run(cfg.lock(), directory) == 0
    return directory


def test_losses_and_hits_are_those_of_the_logits_in_float64():
    bert, rows = transformer.Bert(**small_bert.SECTION), small_bert.batch()
    params = small_bert.params()
    inputs = (rows[name] for name in ("input_ids", "token_type_ids", "attention_mask", "masked_positions"))
    logits = bert.apply({"params": params}, *inputs)
    sums = mlm_nsp.loss(bert, param_layout.pack(params), rows, None)
    for scores, labels, used, names in (
        (logits.mlm_BMV, rows["masked_ids"], rows["masked_ids"] > 0, ("mlm_loss", "mlm_accuracy")),
        (logits.nsp_BC, rows["next_sentence_label"], rows["next_sentence_label"] >= 0, ("nsp_loss", "nsp_accuracy")),
    ):
        scores, labels = np.asarray(scores, np.float64)[used], labels[used]
        right = scores[np.arange(len(labels)), labels]
        losses = np.log(np.exp(scores).sum(-1)) - right
        for name, values in zip(names, (losses, scores.argmax(-1) == labels), strict=True):
            np.testing.assert_allclose(sums[name], (values.sum(), len(labels)), rtol=1e-4, atol=1e-6, err_msg=name)
    assert 0 < sums["nsp_accuracy"][0] < sums["nsp_accuracy"][1]


def test_lines_of_mlm_alone_have_its_metrics_and_no_others(mlm_run):
    lines = tiny_runs.metrics(mlm_run)
    assert {line["kind"] for line in lines} == {"train", "eval"}
    assert all(line["loss"] == line["mlm_loss"] for line in lines)
    assert all("mlm_accuracy" in line for line in lines)
    assert not any(key.startswith("nsp") for line in lines for key in line)


def test_health_json_names_the_metrics_of_the_objective(mlm_run):
    assert health.read(mlm_run).metrics == (metrics.MLM_LOSS, metrics.MLM_ACCURACY)


def test_reports_of_mlm_alone_show_its_metrics_and_no_others(mlm_run):
    run = runs.read(str(mlm_run))
    titles = [chart.title for chart in curves.pretraining_charts([run])]
    assert titles[:3] == ["Loss", "MLM loss", "MLM accuracy"]
    assert "NSP accuracy" not in titles
    html = page.render([run])
    assert "held-out MLM accuracy" in html
    assert "NSP" not in html
    table = card_sections.heldout(run.evidence, {"step": None})
    assert table.startswith("| held-out text, tokens | MLM loss, nats | MLM accuracy |\n| --- | --- | --- |\n| 16 | ")
    no_export = {"run": None, "step": 12, "checked": None}
    card = model_card.pretrained("m", small_bert.SECTION, run.evidence, no_export)
    assert "heldout-32-tokens" in card
    assert "nsp_accuracy" not in card


def test_mlm_alone_leaves_the_nsp_head_without_a_gradient(mlm_run):
    """Its bias is 0 in the beginning, and weight decay does not touch it."""
    params = saved_params.load_params(mlm_run)
    assert not np.any(params["nsp"]["bias"])
    assert np.any(params["mlm"]["bias"])


def test_both_objectives_have_the_same_mlm_sums():
    bert, packed = transformer.Bert(**small_bert.SECTION), param_layout.pack(small_bert.params())
    batch = small_bert.batch()
    alone, both = (objective.loss(bert, packed, batch, None) for objective in (mlm, mlm_nsp))
    assert both.keys() - alone.keys() == {"nsp_loss", "nsp_accuracy"}
    for name, pair in alone.items():
        np.testing.assert_array_equal(pair, both[name])


def test_a_config_selects_its_objective_and_a_wrong_name_is_refused():
    assert objectives.find(config.load("configs/bert.py:micro")) is mlm_nsp.OBJECTIVE
    cfg = config.load("configs/mlm.py:micro")
    assert objectives.find(cfg) is mlm.OBJECTIVE
    cfg.objective = "rtd"
    with pytest.raises(command.UserError, match=r"config.objective is 'rtd': give mlm_nsp or mlm"):
        objectives.find(cfg)


def altered(corpus_dir, directory, **train):
    """Writes a lockfile like that of `corpus_dir`, with other numbers of its training split."""
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((corpus_dir / name).read_bytes())
    content = json.loads((corpus_dir / "corpus.json").read_text())
    content["train"] |= train
    (directory / "corpus.json").write_text(json.dumps(content))
    return str(directory)


def test_a_corpus_of_single_sentences_is_named_at_the_start_unless_nsp_is_off(
    corpus_dir, tmp_path, tmp_path_factory, capsys
):
    content = json.loads((corpus_dir / "corpus.json").read_text())
    documents = content["train"]["documents"]
    values = tiny_runs.keys(corpus_dir, tmp_path_factory)
    values["data.dir"] = altered(corpus_dir, tmp_path, single_sentence_documents=documents)
    cfg = tiny_runs.configured(values).unlock()
    pretraining.training(cfg)
    assert f"warning: {documents:,} of {documents:,} training documents have one sent" in capsys.readouterr().err
    cfg.objective = "mlm"
    pretraining.training(cfg)
    del content["train"]["single_sentence_documents"]  # as in a corpus of an older release
    (tmp_path / "corpus.json").write_text(json.dumps(content))
    cfg.objective = "mlm_nsp"
    pretraining.training(cfg)
    assert capsys.readouterr().err == ""


def test_a_corpus_of_one_text_is_refused_before_anything_is_compiled(corpus_dir, tmp_path, tmp_path_factory):
    values = tiny_runs.keys(corpus_dir, tmp_path_factory)
    values["data.dir"] = altered(corpus_dir, tmp_path, texts=1)
    with pytest.raises(command.UserError, match="has a single training text"):
        pretraining.training(tiny_runs.configured(values))


def test_a_batch_of_single_segments_has_the_loss_of_mlm_alone_and_no_gradient_in_the_nsp_head():
    bert, packed = transformer.Bert(**small_bert.SECTION), param_layout.pack(small_bert.params())
    batch = small_bert.batch()
    single = batch | {"next_sentence_label": np.full_like(batch["next_sentence_label"], -1)}

    def total(params, objective):
        counts, sums = objective.OBJECTIVE.counts(single), objective.OBJECTIVE.loss(bert, params, single, None)
        return sum(sums[name][0] / counts[name] for name in counts)

    (one, grads), (other, _) = (
        jax.jit(jax.value_and_grad(total), static_argnums=1)(packed, objective) for objective in (mlm_nsp, mlm)
    )  # fmt: skip
    assert float(one) == float(other)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads["nsp"]))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(grads))


def test_a_run_with_pairs_in_its_last_part_logs_both_parts_and_resumes(corpus_dir, tmp_path_factory, tmp_path):
    keys = tiny_runs.keys(corpus_dir, tmp_path_factory) | {"data.nsp_share": 0.5, "data.final_mask_rate": 0.1}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert pretraining.run(tiny_runs.configured(keys), epath.Path(whole)) == 0
    lines = [line for line in tiny_runs.metrics(whole) if line["kind"] == "train"]
    for line in lines:
        assert ("nsp_loss" in line) == (line["step"] > 12)
        assert line["loss"] == pytest.approx(line["mlm_loss"] + line.get("nsp_loss", 0), rel=1e-5)
    assert all("nsp_loss" in line for line in tiny_runs.metrics(whole) if line["kind"] == "eval")
    assert health.read(whole).first_nsp_step == 12
    shutil.copytree(whole, resumed)
    for step in tiny_runs.steps(resumed)[2:]:  # as if it had stopped two steps before its first pairs
        shutil.rmtree(resumed / "checkpoints" / str(step))
    assert pretraining.run(tiny_runs.configured(keys), epath.Path(resumed)) == 0
    times = ("examples_per_sec", "tokens_per_sec", "input_wait")
    assert tiny_runs.metrics(resumed, times) == tiny_runs.metrics(whole, times)
