"""The heads of fine-tuning: loss and gradients are PyTorch's on the same weights and batch."""

import functools

from helpers import small_bert
import jax
import numpy as np
import optax
import pytest
import torch
import transformers

from bert_tpu.data import token_rows
from bert_tpu.distributed import collectives, mesh
from bert_tpu.finetune import heads
from bert_tpu.huggingface import tensor_names
from bert_tpu.model import param_layout, transformer
from bert_tpu.training import jobs, train_step

KINDS = {"classify": 3, "regress": 1, "span": 2, "tag": 5}
B, L = 6, 24
LENGTHS = np.array([24, 9, 17, 24, 3, 12])


def batch(head, classes):
    rng = np.random.default_rng(0)
    real = np.arange(L) < LENGTHS[:, None]
    labels = {
        "classify": rng.integers(0, classes, B).astype(np.int32),
        "regress": rng.normal(2, 1, B).astype(np.float32).view(np.int32),
        "span": rng.integers(0, LENGTHS[:, None], (B, 2)).astype(np.int32),
        "tag": np.where(real & (rng.random((B, L)) < 0.6), rng.integers(0, classes, (B, L)), -1).astype(np.int32),
    }[head]
    return {
        "input_ids": np.where(real, rng.integers(1, small_bert.SECTION["vocab_size"], (B, L)), 0).astype(np.int32),
        "token_type_ids": (real & (np.arange(L) > 5)).astype(np.int32),
        "attention_mask": real.astype(np.int32),
        "example_starts": np.zeros((B, 1), np.int32),
        "labels": labels if head == "tag" else labels[:, None],
    }


def tuned(head, **changes):
    bert = transformer.Bert(**small_bert.SECTION | changes, parent=None)
    return heads.Model(bert, head, KINDS[head])


def params(model):
    encoder = {name: tree for name, tree in small_bert.params().items() if name not in ("mlm", "nsp")}
    head = jax.device_get(heads.init_head(model, jax.random.key(4)))
    return param_layout.pack(encoder | {"head": {"kernel": 10 * head["kernel"], "bias": head["bias"] + 0.1}})


def theirs(head, ours):
    """PyTorch's model of the same weights."""
    config = transformers.BertConfig(
        vocab_size=small_bert.SECTION["vocab_size"], hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=96, max_position_embeddings=48, num_labels=KINDS[head], layer_norm_eps=1e-12,
        attn_implementation="eager", problem_type="regression" if head == "regress" else None,
    )  # fmt: skip
    kinds = {
        "tag": transformers.BertForTokenClassification,
        "span": transformers.BertForQuestionAnswering,
    }
    peer = kinds.get(head, transformers.BertForSequenceClassification)(config)
    known = small_bert.params()
    tensors = {n: t for n, t in tensor_names.to_hf(known).items() if not n.startswith("cls.")}
    last = "qa_outputs" if head == "span" else "classifier"
    tensors |= {
        f"{last}.weight": np.asarray(ours["head"]["kernel"]).T,
        f"{last}.bias": np.asarray(ours["head"]["bias"]),
    }
    if head in ("tag", "span"):
        tensors = {n: t for n, t in tensors.items() if "pooler" not in n}
    peer.load_state_dict({n: torch.from_numpy(np.array(t)) for n, t in tensors.items()})
    return peer.eval()


def their_loss(head, model, examples):
    labels = torch.from_numpy(examples["labels"] if head == "tag" else examples["labels"][:, 0])
    inputs = {n: torch.from_numpy(examples[n]).long() for n in ("input_ids", "token_type_ids", "attention_mask")}
    if head == "span":
        outputs = model(**inputs)
        # Their loss lets padding be an answer; run_squad.py of BERT's authors does not, nor do readers of its answers.
        padding = inputs["attention_mask"] == 0
        ends = (outputs.start_logits, outputs.end_logits)
        each = [
            torch.nn.functional.cross_entropy(e.masked_fill(padding, -1e9), labels[:, i].long())
            for i, e in enumerate(ends)
        ]
        return sum(each) / 2
    if head == "regress":
        return model(**inputs, labels=labels.view(torch.float32)).loss
    return model(**inputs, labels=torch.where(labels < 0, -100, labels).long()).loss


@pytest.mark.parametrize("head", KINDS)
def test_loss_and_every_gradient_are_pytorch_s(head):
    model, examples = tuned(head), batch(head, KINDS[head])
    start = params(model)
    count = heads.counts(model, examples)["loss"]

    def mean(tree):
        return heads.loss(model, tree, examples, None)["loss"][0] / count

    value, gradients = jax.jit(jax.value_and_grad(mean))(start)
    peer = theirs(head, start)
    loss = their_loss(head, peer, examples)
    loss.backward()
    assert float(value) == pytest.approx(loss.item(), rel=1e-5)
    unpacked = jax.device_get(param_layout.trim(gradients, small_bert.SECTION["vocab_size"]))
    ours = tensor_names.to_hf(small_bert.params() | {name: tree for name, tree in unpacked.items() if name != "head"})
    last = "qa_outputs" if head == "span" else "classifier"
    ours |= {f"{last}.weight": unpacked["head"]["kernel"].T, f"{last}.bias": unpacked["head"]["bias"]}
    for name, parameter in peer.named_parameters():
        wanted = parameter.grad.numpy()
        np.testing.assert_allclose(ours[name], wanted, atol=2e-5 * np.abs(wanted).max() + 1e-6, err_msg=name)


def packed(examples, head):
    """The same examples in three rows of two, and a slot and a row of nothing."""
    many = {name: np.zeros((4, 2 * L), np.int32) for name in ("input_ids", "token_type_ids", "attention_mask")}
    nothing = {"regress": np.float32(np.nan).view(np.int32), "span": 0}.get(head, token_rows.IGNORED)
    shape = {"tag": (4, 2 * L), "span": (4, 3, 2)}.get(head, (4, 3))
    many |= {"example_starts": np.zeros((4, 3), np.int32), "labels": np.full(shape, nothing, np.int32)}
    for example, length in enumerate(LENGTHS):
        row, slot = divmod(example, 2)
        start = LENGTHS[example - 1] if slot else 0
        for name in ("input_ids", "token_type_ids"):
            many[name][row, start : start + length] = examples[name][example, :length]
        many["attention_mask"][row, start : start + length] = 1 + slot
        many["example_starts"][row, slot] = start
        if head == "tag":
            many["labels"][row, start : start + length] = examples["labels"][example, :length]
        else:
            many["labels"][row, slot] = examples["labels"][example, 0] + (start if head == "span" else 0)
    return many


@pytest.mark.parametrize("head", KINDS)
def test_examples_that_share_rows_give_the_same_loss_and_gradients(head):
    model, examples = tuned(head), batch(head, KINDS[head])
    start = params(model)

    def mean(tree, of):
        sums = heads.loss(model, tree, of, None)
        return sums["loss"][0] / heads.counts(model, of)["loss"], sums

    run = jax.jit(jax.value_and_grad(mean, has_aux=True))
    (value, sums), gradients = run(start, packed(examples, head))
    (wanted, wanted_sums), wanted_gradients = run(start, examples)
    assert float(value) == pytest.approx(float(wanted), rel=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), sums, wanted_sums)
    largest = max(np.abs(g).max() for g in jax.tree.leaves(wanted_gradients))
    jax.tree.map(
        lambda g, w: np.testing.assert_allclose(g, w, rtol=0, atol=2e-6 * largest), gradients, wanted_gradients
    )


def test_a_span_is_right_if_both_ends_are():
    model, examples = tuned("span"), batch("span", 2)
    tree = params(model)
    scores = np.asarray(heads.outputs(model, tree, examples))
    scores = np.where(np.arange(L)[None, :, None] < LENGTHS[:, None, None], scores, -np.inf)
    right = scores.argmax(1)  # [B, start and end]
    for wrong, hits in (([], B), ([0], B - 3), ([1], B - 3), ([0, 1], B - 3)):
        labels = right.copy()
        labels[:3, wrong] = (labels[:3, wrong] + 1) % 3
        assert (
            heads.loss(model, tree, examples | {"labels": labels[:, None].astype(np.int32)}, None)["accuracy"][0]
            == hits
        )


@pytest.mark.parametrize("head", KINDS)
def test_dropout_before_the_head_is_the_model_s_and_the_span_head_has_none(head):
    model = tuned(head, dropout=0.25, attention_dropout=0.0)
    examples, tree = batch(head, KINDS[head]), params(model)
    before = tree | {"head": {"kernel": np.eye(64, dtype=np.float32), "bias": np.zeros(64, np.float32)}}
    outputs = jax.jit(functools.partial(heads.outputs, model, before, examples))
    for seed in range(2):  # a head that copies its input shows zeros where the input was dropped
        copied = outputs(jobs.Draw(jax.random.key(seed), np.int32(0)))
        assert (copied == 0).mean() == pytest.approx(0.0 if head == "span" else 0.25, abs=0.08)


def test_a_last_layer_at_first_tokens_alone_is_the_whole_one():
    model = tuned("classify")
    examples = packed(batch("classify", 3), "classify")
    encoder = {name: tree for name, tree in param_layout.split_layers(params(model)).items() if name != "head"}
    bert = model.bert.clone(vocab_size=param_layout.padded_size(model.bert.vocab_size))
    inputs = [examples[name] for name in ("input_ids", "token_type_ids", "attention_mask")]

    starts = examples["example_starts"]

    cotangent = np.random.default_rng(0).normal(size=(*starts.shape, 64)).astype(np.float32)

    @jax.jit
    def pooled(places):
        """The first tokens' outputs, and the gradient of their sum weighted by `cotangent`."""
        outputs, back = jax.vjp(
            lambda tree: bert.apply({"params": tree}, *inputs, None, starts, places, method="encode").pooled_BD, encoder
        )
        return outputs, back(cotangent.reshape(outputs.shape))[0]

    (alone, gradients), (whole, wanted) = pooled(starts), pooled(None)
    np.testing.assert_allclose(alone, whole, atol=1e-6)
    largest = max(np.abs(g).max() for g in jax.tree.leaves(wanted))
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=2e-6 * largest), gradients, wanted)


def test_a_large_head_is_the_same_on_several_devices():
    """With 150 classes it is large enough to be cut by rows, which travel in bfloat16."""
    bert = transformer.Bert(**small_bert.SECTION | {"hidden_size": 512, "dtype": "bfloat16"}, parent=None)
    model = heads.Model(bert, "classify", 150)
    job = jobs.Job(
        init=lambda key: param_layout.pack(heads.init(model, key)), loss=None, counts=None, rule=optax.identity(),
        learning_rate=None, shapes={}, flops={}, seed=0, accumulate={}, dtype="bfloat16",
    )  # fmt: skip
    on = mesh.make(jax.devices()[:2])
    placed = train_step.shardings(job, on).params
    params = jax.jit(job.init, out_shardings=placed)(jax.random.key(0))
    specs = jax.tree.map(lambda sharding: sharding.spec, placed)
    gather = mesh.map_shards(on, lambda p: collectives.gather_params(p, specs, job.dtype), (specs,), mesh.WHOLE)
    whole = jax.jit(gather)(params)
    assert params["head"]["kernel"].size >= train_step.CUT_SIZE
    np.testing.assert_array_equal(whole["head"]["kernel"], params["head"]["kernel"])
    words, cut = whole["embeddings"]["word"], params["embeddings"]["word"]
    np.testing.assert_array_equal(words, cut.astype("bfloat16").astype("float32"))
    assert np.any(words != cut)
