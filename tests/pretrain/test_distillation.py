"""A student learns from the distribution of a teacher that no step changes, and a run keeps its teacher."""

import dataclasses
import json
import re
import shutil

from helpers import small_bert, tiny_runs
import jax
import numpy as np
import optax
import pytest
import torch
from torch.nn import functional
import transformers

from bert_tpu.core import command
from bert_tpu.corpus import prepare
from bert_tpu.data import packing
from bert_tpu.distributed import mesh
from bert_tpu.huggingface import hf, tensor_names
from bert_tpu.model import flops, param_layout, transformer
from bert_tpu.pretrain import __main__ as main
from bert_tpu.pretrain import pretraining, several_seeds
from bert_tpu.report import card_sections, curves, run, tables
from bert_tpu.tokenizer import vocab
from bert_tpu.training import jobs, train_step, workdir

STUDENT = small_bert.SHALLOW | {"dropout": 0.0, "attention_dropout": 0.0}
TEACHER = small_bert.SECTION | {"hidden_size": 96, "num_heads": 3, "activation": "gelu_new"}
WEIGHT, T = 0.3, 2.0
RELATIONS, HEADS = 0.7, 8  # weight, and relation heads: neither model has as many heads


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A Hugging Face directory."""
    return small_bert.save(tmp_path_factory.mktemp("teacher") / "model", TEACHER)


@pytest.fixture(scope="module")
def keys(text_file, tmp_path_factory):
    """Keys of a tiny run of STUDENT on a corpus of its tokenizer."""
    root = tmp_path_factory.mktemp("distillation")
    vocab.save(small_bert.VOCAB, root / "tokenizer")
    prepare.prepare([str(text_file)], root / "tokenizer", root / "corpus", heldout=0.1, workers=1)
    section = {f"model.{key}": value for key, value in STUDENT.items()}
    return tiny_runs.keys(root / "corpus", tmp_path_factory) | section | {"batch_size": 8}


def configured(keys, teacher, **changes):
    return tiny_runs.configured(keys, **{"distill.teacher": str(teacher), **changes})


def rows():
    """Eight rows."""
    return {name: np.concatenate([values, values[::-1]]) for name, values in small_bert.batch().items()}


def gradient(job, devices, seeds=(), seq_len=24):
    """The gradient of `rows()` at small_bert's parameters, and the step's means; of several `seeds` [seeds, ...]."""
    job = dataclasses.replace(job, rule=optax.identity(), learning_rate=lambda step: 1.0)
    on, batch = mesh.make(jax.devices()[:devices]), rows()
    packed = jax.device_get(param_layout.pack(small_bert.params(STUDENT)))
    if seeds:
        job = several_seeds.stacked(job, seeds)
        packed = jax.tree.map(lambda x: np.stack([x] * len(seeds)), packed)
        batch = {name: np.stack([x] * len(seeds), axis=1) for name, x in batch.items()}
    state = jax.device_put(jobs.new_state(job, packed), train_step.shardings(job, on))
    step = train_step.bound_step(job, on, seq_len)
    after, sums = jax.device_get(step(state, mesh.put_batch(batch, on)))
    means = {name: total / count for name, (total, count) in sums.items()}
    return jax.tree.map(np.subtract, packed, after.params), means


def teach(keys, teacher, objective="mlm_nsp", **changes):
    """The Job of rows of 24 tokens."""
    values = {"data.seq_lens": (24,), "data.max_predictions": (6,), "distill.weight": WEIGHT, "distill.temperature": T}
    cfg = configured(keys, teacher, **values | changes)
    with cfg.unlocked():
        cfg.objective = objective
    return pretraining.make_job(cfg)


def relations(models, hidden_states, is_token):
    """PyTorch's mean divergence of the last layers' relations: over tokens, relation heads, and Q-Q, K-K and V-V."""
    parts = []
    for name in ("query", "key", "value"):
        logs = []
        for model, states in zip(models, hidden_states, strict=True):
            x = getattr(model.bert.encoder.layer[-1].attention.self, name)(states[-2])
            x = x.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2)
            scores = x @ x.transpose(2, 3) / x.shape[-1] ** 0.5
            logs.append(functional.log_softmax(scores.masked_fill(~is_token[:, None, None], -torch.inf), -1))
        ours, theirs = (torch.where(is_token[:, None, None], log, 0.0) for log in logs)
        divergence = torch.where(is_token[:, None, None], theirs.exp() * (theirs - ours), 0.0).sum(-1)
        parts.append(divergence.mean(1)[is_token].mean())
    return sum(parts) / 3


@pytest.fixture(scope="module")
def pytorchs(teacher, tmp_path_factory):
    """Gradients of PyTorch's loss (1 - WEIGHT) x MLM + WEIGHT x T^2 x KL + NSP, and its parts.

    The gradients are those without the relations, and those with RELATIONS x their distance.
    """
    batch = {name: torch.from_numpy(values).long() for name, values in rows().items()}
    used = batch["masked_ids"] > 0
    inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
    student = small_bert.save(tmp_path_factory.mktemp("student"), STUDENT)
    models = [transformers.BertForPreTraining.from_pretrained(path).eval() for path in (student, teacher)]
    outs = [model(**inputs, output_hidden_states=True) for model in models]
    z, t = (torch.take_along_dim(out.prediction_logits, batch["masked_positions"][..., None], 1)[used] for out in outs)
    parts = {
        "mlm_loss": functional.cross_entropy(z, batch["masked_ids"][used]),
        "distill_loss": T**2 * functional.kl_div(
            functional.log_softmax(z / T, -1), functional.softmax(t.detach() / T, -1), reduction="batchmean"
        ),
        "nsp_loss": functional.cross_entropy(outs[0].seq_relationship_logits, batch["next_sentence_label"]),
    }  # fmt: skip
    gradients = {}
    ((1 - WEIGHT) * parts["mlm_loss"] + WEIGHT * parts["distill_loss"] + parts["nsp_loss"]).backward(retain_graph=True)
    gradients[0.0] = {name: parameter.grad.numpy().copy() for name, parameter in models[0].named_parameters()}
    states = outs[0].hidden_states, [x.detach() for x in outs[1].hidden_states]
    parts["relation_loss"] = relations(models, states, batch["attention_mask"] > 0)
    (RELATIONS * parts["relation_loss"]).backward()
    gradients[RELATIONS] = {name: parameter.grad.numpy() for name, parameter in models[0].named_parameters()}
    return gradients, {name: part.item() for name, part in parts.items()}


@pytest.mark.parametrize(
    ("devices", "parts", "seeds", "weight"), [(1, 1, (), 0.0), (4, 2, (), RELATIONS), (1, 1, (0, 1), RELATIONS)]
)
def test_the_gradient_of_a_step_is_pytorchs(keys, teacher, pytorchs, devices, parts, seeds, weight):
    more = {"distill.relations": weight, "distill.relation_heads": HEADS}
    ours, means = gradient(teach(keys, teacher, accumulate=parts, **more), devices, seeds)
    if seeds:
        ours, means = jax.tree.map(lambda x: x[1], (ours, means))
    gradients, values = pytorchs[0][weight], pytorchs[1]
    assert ("relation_loss" in means) == bool(weight)
    for name in values.keys() & means.keys():
        np.testing.assert_allclose(means[name], values[name], rtol=1e-5, err_msg=name)
    ours = tensor_names.to_hf(param_layout.trim(ours, STUDENT["vocab_size"]))
    largest = max(np.abs(theirs).max() for theirs in gradients.values())
    for name, theirs in gradients.items():
        tolerance = 1e-5 * np.abs(theirs).max() + 3e-7 * largest
        np.testing.assert_allclose(ours[name], theirs, rtol=0, atol=tolerance, err_msg=name)


def test_a_student_that_is_its_teacher_learns_nothing_from_it(keys, tmp_path):
    itself = small_bert.save(tmp_path, STUDENT)
    ours, means = gradient(teach(keys, itself, "mlm", **{"distill.weight": 1.0, "distill.relations": 1.0}), 1)
    assert max(abs(means["distill_loss"]), abs(means["relation_loss"])) < 1e-5 < means["mlm_loss"]
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(ours)) < 1e-6


def test_the_teachers_forward_is_counted(keys, teacher):
    alone, taught = (pretraining.make_job(configured(keys, path)) for path in ("", teacher))
    bert = transformer.Bert(**TEACHER)
    for n, own in alone.flops.items():
        B, M = taught.shapes[n]["masked_ids"]
        extra = taught.flops[n] - own
        # A third of its own training, but for the pooler and the NSP head.
        heads = 2 * B * (bert.hidden_size**2 + 2 * bert.hidden_size)
        assert extra == flops.train(bert, B, n, M) / 3 - heads
        related = pretraining.make_job(configured(keys, teacher, **{"distill.relations": 1.0}))
        # Three products of all tokens with each other; with a backward pass only for the student.
        widths = 3 * STUDENT["hidden_size"] + bert.hidden_size
        assert related.flops[n] - taught.flops[n] == 3 * 2 * B * n * n * widths


def test_examples_that_share_rows_have_the_distances_of_separate_rows(keys, teacher):
    packing_keys = {"data.packed_rows": 4, "data.long_every": 2, "data.short_prob": 1.0}
    cfg = configured(keys, teacher, **packing_keys, **{"distill.relations": 1.0})
    job, spec = pretraining.make_job(cfg), pretraining.make_batch_spec(cfg)
    data = pretraining.open_data(cfg, pretraining.open_corpus(cfg), spec, devices=1)
    packed = next(batch for seq_len, batch in data.batches_from(0) if seq_len == spec.seq_lens[-1])
    assert np.count_nonzero(packed["example_starts"]) >= 2  # examples that do not begin their row
    params, fixed = param_layout.pack(small_bert.params(STUDENT)), job.fixed_loss.load()
    loss = jax.jit(lambda rows: job.fixed_loss.loss(params, rows, None, fixed))
    ours, theirs = (loss(rows) for rows in (packed, packing.unpack(packed)))
    for name in ("mlm_loss", "distill_loss", "relation_loss"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)


@pytest.fixture(scope="module")
def short(keys):
    """Keys of a run of 4 steps."""
    return keys | {
        "num_steps": 4, "checkpoint.every_steps": 2, "eval.num_batches": 0, "log.every_steps": 1,
        "data.seq_lens": (16,), "data.max_predictions": (3,), "model.dropout": 0.1,
    }  # fmt: skip


@pytest.fixture(scope="module")
def finished(short, teacher, tmp_path_factory):
    """The workdir of a run that has ended."""
    directory = tmp_path_factory.mktemp("run")
    assert pretraining.run(configured(short, teacher), directory) == 0
    return directory


def test_a_run_goes_on_with_its_teacher_in_another_place(short, teacher, finished, tmp_path):
    moved, copy = shutil.copytree(teacher, tmp_path / "moved"), shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(copy / "checkpoints" / "4")
    assert pretraining.run(configured(short, moved), copy) == 0
    speeds = ("input_wait", "examples_per_sec", "tokens_per_sec")
    lines = tiny_runs.metrics(finished, speeds)
    assert tiny_runs.metrics(copy, speeds) == lines
    assert all(line["distill_loss"] > 0 for line in lines)
    assert all(line["loss"] == pytest.approx(line["mlm_loss"] + line["nsp_loss"], abs=1e-5) for line in lines)


def test_report_and_card_name_the_teacher(finished):
    record = run.read(finished)
    name = "model (L2 H96 A3), weight 0.5, temperature 1"
    assert tables.figures([record])["teacher"] == [("", [name])]
    digest = record.hashes["teacher"]
    assert f"- teacher: {name}, sha256 {digest}" in card_sections.procedure(record.evidence, {"step": 4})
    assert [chart.title for chart in curves.pretraining_charts([record])].count("Distance from the teacher") == 1
    config = record.evidence.config
    assert (
        card_sections.teacher(config | {"distill": config["distill"] | {"relations": 0.5}}) == name + ", relations 0.5"
    )


def test_a_replayed_step_has_its_teacher(short, teacher, finished, capsys):
    main.replay_step(configured(short, teacher), finished, 2)
    printed = re.findall(r"distill_loss +([\d.]+)$", capsys.readouterr().out, re.MULTILINE)
    (line,) = (line for line in tiny_runs.metrics(finished) if line["step"] == 3)
    assert [float(value) for value in printed] == [pytest.approx(line["distill_loss"], rel=1e-5)] * 2


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"distill.teacher": "{other}"},
            r"distill.sha256 is '[0-9a-f]{64}' there and '[0-9a-f]{64}' here \(distill.teacher .*other; it was .*",
        ),
        ({"distill.teacher": "{more_heads}"}, "distill.sha256 is "),
        ({"distill.weight": 0.25}, "distill.weight is 0.5 there and 0.25 here"),
        ({"distill.teacher": ""}, "distill.sha256 is '[0-9a-f]{64}' there and None here"),
    ],
)
def test_a_run_with_another_teacher_is_refused(short, teacher, finished, tmp_path, changes, complaint):
    hf.save(tmp_path / "other", small_bert.params(TEACHER, seed=1), TEACHER, small_bert.VOCAB)
    same = small_bert.params(TEACHER)
    hf.save(tmp_path / "more_heads", same, {**TEACHER, "num_heads": 2 * TEACHER["num_heads"]}, small_bert.VOCAB)
    places = {name: tmp_path / name for name in ("other", "more_heads")}
    changes = {key: str(value).format(**places) for key, value in changes.items()} | {
        key: value for key, value in changes.items() if not isinstance(value, str)
    }
    with pytest.raises(command.UserError, match=f"another config: {complaint}"):
        pretraining.run(configured(short, teacher, **changes), finished)


def test_several_seeds_are_bound_to_one_teacher(short, teacher, tmp_path):
    cfg = configured(short, teacher)
    facts = several_seeds.training(cfg, (0, 1), cfg, tmp_path).facts
    assert facts["distill"] == pretraining.training(cfg).facts["distill"]
    assert re.fullmatch("[0-9a-f]{64}", facts["distill"]["sha256"])


def test_a_config_without_the_section_is_one_without_a_teacher(short, tmp_path):
    cfg = configured(short, "")
    older = cfg.copy_and_resolve_references().unlock()
    del older.distill
    job = pretraining.make_job(older)
    assert job.fixed_loss is None
    with workdir.claim(tmp_path, older.to_dict()):
        (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    workdir.check(tmp_path, cfg.to_dict())


OTHERS = small_bert.VOCAB._replace(pieces=(*small_bert.PIECES[:-2], *small_bert.PIECES[:-3:-1]))


@pytest.mark.parametrize(
    ("changes", "vocabulary", "complaint"),
    [
        ({"max_position_embeddings": 20}, small_bert.VOCAB, "has 20 positions, fewer than the rows' 32 tokens"),
        ({"type_vocab_size": 1}, small_bert.VOCAB, "knows one segment"),
        ({"vocab_size": 106}, small_bert.OTHER_VOCAB, "has 106 pieces and config.model.vocab_size is 105"),
        ({}, OTHERS, "2 pieces of its tokenizer differ from the corpus'"),
        ({"relation_heads": 5}, small_bert.VOCAB, "relation_heads: 5 does not divide both .* 96 and .* 64: .* as 32"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(keys, teacher, tmp_path, changes, vocabulary, complaint):
    other = shutil.copytree(teacher, tmp_path / "other")
    section = json.loads((other / "config.json").read_text()) | changes
    heads = section.pop("relation_heads", 0)
    (other / "config.json").write_text(json.dumps(section))
    vocab.save(vocabulary, other)
    with pytest.raises(command.UserError, match=complaint):
        pretraining.training(configured(keys, other, **{"distill.relations": 1.0, "distill.relation_heads": heads}))


def test_a_changed_section_without_a_teacher_is_warned(short, capsys):
    pretraining.training(configured(short, ""))
    assert "distill" not in capsys.readouterr().err
    pretraining.training(configured(short, "", **{"distill.weight": 0.25, "distill.temperature": 2.0}))
    assert "warning: config.distill.temperature and weight: nothing without a config.distill.teacher" in (
        capsys.readouterr().err
    )


def test_a_teacher_without_an_mlm_head_is_refused(keys, teacher, tmp_path):
    shutil.copytree(teacher, tmp_path / "bare")
    transformers.BertModel.from_pretrained(teacher).save_pretrained(tmp_path / "bare")
    with pytest.raises(command.UserError, match="bare has no MLM head to learn from"):
        pretraining.training(configured(keys, tmp_path / "bare"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"distill.weight": 0.0}, "weight is 0.0: give more than 0"), ({"distill.weight": 1.5}, "give more than 0"),
        ({"distill.temperature": 0.5}, "temperature is 0.5: give 1 to 10"),
        ({"distill.weight": float("nan")}, "weight is nan"),
        ({"distill.relations": -1.0}, "relations is -1.0: give 0 or more"),
        ({"distill.relations": float("inf")}, "relations is inf"), ({"distill.relation_heads": -1}, "heads is -1"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(keys, teacher, changes, complaint):
    with pytest.raises(command.UserError, match=f"config.distill.{complaint}|{complaint}"):
        pretraining.make_job(configured(keys, teacher, **changes))
