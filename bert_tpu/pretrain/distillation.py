"""Distillation: a teacher's distribution at the masked places as a second target of training.

The loss of a step is (1 - weight) x MLM + weight x distance from the teacher (soft_targets.losses), and the NSP loss
if the objective has one. The distance from the relations of the teacher's last layer (relations.distances) may be
added. Evaluations have no teacher.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from bert_tpu.core import command, config
from bert_tpu.data import batch_spec
from bert_tpu.huggingface import hf, pretrained
from bert_tpu.model import flops, param_layout, relations, transformer
from bert_tpu.monitoring import metrics
from bert_tpu.pretrain import mlm, objective
from bert_tpu.tokenizer import vocab
from bert_tpu.training import jobs

SECTION = "distill"
LATER = "relations", "relation_heads"  # keys that an earlier release's section lacks
TEMPERATURES = 1, 10  # above 10, logits whose exp underflows would count; below 1 has no use
MATRICES = ("kernel", "word", "position", "type")  # leaves that every product takes in the compute type
PARTS = ("embeddings", "layers", "pooler", "mlm")  # `encode` asks for the pooler; the compiler drops it


class Teacher:
    """A BERT of any size that a run learns from. Its weights are read when they are needed."""

    def __init__(
        self, teacher: str, weight: float, temperature: float, relations: float, relation_heads: int, dtype: str
    ) -> None:
        """Reads the teacher's sizes. Raises UserError as pretrained.load_origin.

        dtype: compute type; the other arguments are the section of a config
        """
        self.path, self.weight, self.temperature = teacher, weight, temperature
        self.relations, self.relation_heads = relations, relation_heads
        self.section = pretrained.load_origin(teacher).section | {"dtype": dtype}
        self.bert = transformer.Bert(**self.section, parent=None, name=None)

    def check(self, bert: transformer.Bert, longest: int) -> None:
        """Raises UserError unless the teacher reads the rows of the student `bert`, of up to `longest` tokens."""
        ours, path = self.bert, f"config.{SECTION}.teacher: {self.path}"
        if ours.vocab_size != bert.vocab_size:
            raise command.UserError(
                f"{path} has {ours.vocab_size:,} pieces and config.model.vocab_size is {bert.vocab_size:,}: give a "
                "teacher with the tokenizer of the corpus, and its number of pieces as --config.model.vocab_size"
            )
        if ours.max_positions < longest:
            raise command.UserError(
                f"{path} has {ours.max_positions:,} positions, fewer than the rows' {longest:,} tokens: give a teacher "
                "with more, or shorter rows (config.data.seq_lens)"
            )
        if ours.type_vocab_size < 2:
            raise command.UserError(f"{path} knows one segment and rows have two: give a teacher with two")
        heads = self.heads(bert)
        if self.relations and (ours.hidden_size % heads or bert.hidden_size % heads):
            raise command.UserError(
                f"config.{SECTION}.relation_heads: {heads} does not divide both the teacher's width {ours.hidden_size} "
                f"and the student's {bert.hidden_size}: give a number that does, such as "
                f"{math.gcd(ours.hidden_size, bert.hidden_size)}"
            )

    def heads(self, bert: transformer.Bert) -> int:
        """Returns the number of heads in which relations are compared with those of the student `bert`."""
        return self.relation_heads or bert.num_heads

    def check_vocabulary(self, vocabulary: vocab.Vocab, corpus: Any) -> None:
        """Raises UserError unless its tokenizer is `vocabulary`, that of the `corpus`."""
        pretrained.check_vocabulary(self.path, vocabulary, corpus)

    @functools.cached_property
    def _params(self) -> jobs.Params:
        """Its float32 parameters, as Bert.apply takes them."""
        start = pretrained.load(self.path)
        check_head(start, self.path)
        return jax.device_get(hf.complete(start))

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of the encoder, the MLM head and what gives them their meaning, such as the number of heads.

        It does not depend on their path or file format.
        """
        params = {key: tree for key, tree in self._params.items() if key not in ("pooler", "nsp")}
        return pretrained.sha256(params, self.section)

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of a run that identify the teacher, wherever it lies."""
        sizes = {key: self.section[key] for key in ("num_layers", "hidden_size", "num_heads")}
        return {"sha256": self.sha256, "teacher_sizes": sizes}

    def load(self) -> jobs.Params:
        """Returns its packed parameters on the host, the matrices in the compute type. Frees the float32 ones."""
        params = jax.device_get(self._packed(self._params))
        del self.__dict__["_params"]
        return params

    def _packed(self, params: jobs.Params) -> jobs.Params:
        packed = param_layout.pack(params)

        def in_type(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
            return leaf.astype(self.bert.dtype) if path[-1].key in MATRICES else leaf

        return jax.tree_util.tree_map_with_path(in_type, {key: packed[key] for key in PARTS})

    def teach(
        self, job: jobs.Job, bert: transformer.Bert, target: objective.Objective, spec: batch_spec.BatchSpec
    ) -> jobs.Job:
        """Returns the Job of the student `bert` that learns from this teacher, too.

        job: of the student alone
        target: its objective
        spec: of its batches
        """
        self.check(bert, spec.used_lens()[-1])
        work = {n: flops.mlm_scores(self.bert, spec.rows(n), n, spec.predictions(n)) for n in job.flops}
        if self.relations:
            work = {n: own + flops.relations(bert, self.bert, spec.rows(n), n) for n, own in work.items()}
        return dataclasses.replace(
            job,
            fixed_loss=self.fixed_loss(bert, target),
            counts=functools.partial(self.counts, target),
            flops={n: own + work[n] for n, own in job.flops.items()},
        )

    def fixed_loss(self, bert: transformer.Bert, target: objective.Objective) -> jobs.FixedLoss:
        """Returns the loss of a step: that of `target` for the student `bert`, with the teacher's scores."""

        def loss(params: jobs.Params, rows: jobs.Batch, draw: jobs.Draw | None, fixed: jobs.Params) -> jobs.Sums:
            whole = self.bert.clone(vocab_size=param_layout.padded_size(self.bert.vocab_size))
            factors, sown = whole.apply(
                {"params": param_layout.split_layers(fixed)},
                rows["input_ids"], rows["token_type_ids"], rows["attention_mask"], rows["masked_positions"],
                rows.get("example_starts"), method="mlm_factors",
                mutable=[relations.SOWN] if self.relations else [],
            )  # fmt: skip
            vectors = relations.of_last_layer(sown, self.bert.num_layers) if self.relations else None
            outputs = transformer.TeacherOutputs(factors, self.temperature, vectors, self.heads(bert))
            return target.loss(bert, params, rows, draw, outputs)

        return jobs.FixedLoss(
            loss=loss,
            shapes=jax.eval_shape(self._packed, param_layout.shapes(self.section)),
            load=self.load,
        )

    def counts(self, target: objective.Objective, batch: jobs.Batch) -> dict[str, jax.Array]:
        """Returns the counts that divide the sums of a step's loss. A term with weight w has its count divided by w."""
        counts = target.counts(batch)
        predictions = counts.pop(mlm.LOSS)
        weights = {mlm.LOSS: 1 - self.weight, metrics.DISTILL_LOSS: self.weight}
        counts |= {name: predictions / jnp.float32(weight) for name, weight in weights.items() if weight}
        if self.relations:
            counts[metrics.RELATION_LOSS] = jnp.sum(batch["attention_mask"] > 0) / jnp.float32(self.relations)
        return counts


def idle_warning(cfg: ml_collections.ConfigDict) -> str:
    """Returns a warning if a config changes the section and names no teacher, so that the change does nothing."""
    section = cfg.get(SECTION, {})
    changed = [key for key, value in section.items() if value != config.ADDED[f"{SECTION}.{key}"]]
    if section.get("teacher") or not changed:
        return ""
    return f"config.{SECTION}.{' and '.join(changed)}: nothing without a config.{SECTION}.teacher"


def check_head(start: hf.Pretrained, path: str) -> None:
    """Raises UserError unless the model `start`, loaded from `path`, has an MLM head."""
    if "mlm" in start.absent:
        raise command.UserError(
            f"config.{SECTION}.teacher: {path} has no MLM head to learn from: give a model with one"
        )


def find(cfg: ml_collections.ConfigDict) -> Teacher | None:
    """Returns the teacher of a config; None if it names none. Raises UserError for a wrong value of the section."""
    if SECTION not in cfg:
        return None
    section = {key: config.ADDED[f"{SECTION}.{key}"] for key in LATER} | cfg[SECTION].to_dict()
    config.check_keys(section, f"config.{SECTION}", ("teacher", "weight", "temperature", *LATER))
    if not 0 < section["weight"] <= 1:
        raise command.UserError(
            f"config.{SECTION}.weight is {section['weight']}: give more than 0 and at most 1; without a teacher, leave "
            f"config.{SECTION}.teacher empty"
        )
    low, high = TEMPERATURES
    if not low <= section["temperature"] <= high:
        raise command.UserError(f"config.{SECTION}.temperature is {section['temperature']}: give {low} to {high}")
    for key in LATER:
        if not 0 <= section[key] < math.inf:
            raise command.UserError(f"config.{SECTION}.{key} is {section[key]}: give 0 or more")
    return Teacher(**section, dtype=cfg.model.dtype) if section["teacher"] else None
