"""Pretrains one config with several seeds in one program, and evaluates each seed at the end, to compare recipes.

A seed gets the same first parameters, batches and dropout as if it were trained alone. The held-out rows are those of a
reference config. So all recipes are evaluated on the same rows, whatever their own lengths, masks and batch sizes are.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import json
import math
import operator
from typing import TYPE_CHECKING, Any

from etils import epath
import jax
from jax.sharding import Mesh
import ml_collections
import numpy as np

from bert_tpu.core import command, json_files, storage
from bert_tpu.corpus import store
from bert_tpu.data import batch_spec, packing, row_limits
from bert_tpu.huggingface import hf, pretrained
from bert_tpu.model import param_layout
from bert_tpu.monitoring import log, versions
from bert_tpu.pretrain import distillation, evaluation, pretraining
from bert_tpu.tokenizer import vocab
from bert_tpu.training import jobs, loop, saved_params, train_step, trainer, workdir

if TYPE_CHECKING:  # it imports TensorFlow
    from bert_tpu.data import corpus_batches

FILE = "heldout.json"  # in the workdir of a run that has done its last evaluation
# Keys of the reference's `data` that decide the content of the held-out rows (corpus_batches.heldout).
ROW_KEYS = ("seq_lens", "max_predictions", "short_prob", "whole_word", "packed_rows", "packed_examples")


class Schedule:
    """The schedule of several trainings at once: that of one, with the rows and examples of all."""

    def __init__(self, spec: batch_spec.BatchSpec, trainings: int):
        """spec: of one training's batches."""
        self._spec, self._trainings = spec, trainings
        self.batch_share, self.used_lens, self.check_division = spec.batch_share, spec.used_lens, spec.check_division

    @property
    def batch_size(self) -> int:
        """Examples of a step, those of all trainings together."""
        return self._spec.batch_size * self._trainings

    def rows_before(self, step: int, seq_len: int) -> int:
        """Returns the rows of the steps before `step`, those of all trainings together."""
        return self._spec.rows_before(step, seq_len) * self._trainings

    def rows(self, seq_len: int) -> int:
        """Returns the rows of a full step, those of all trainings together."""
        return self._spec.rows(seq_len) * self._trainings


def training(
    cfg: ml_collections.ConfigDict,
    seeds: Sequence[int],
    reference: ml_collections.ConfigDict,
    directory: epath.Path,
) -> trainer.Training:
    """Returns the training of `cfg` with each of `seeds`, on the devices of this process.

    cfg: of each training; its `seed` must be the first of `seeds`
    seeds: different whole numbers
    reference: the config of the held-out rows; `heldout_facts` lists the keys that decide them
    directory: the workdir, which gets FILE at the end: sequence length -> metric -> value of each seed

    Raises UserError if the corpora differ, or if the model has too few positions for the held-out rows.
    """
    one, spec, lock = pretraining.training(cfg), pretraining.make_batch_spec(cfg), pretraining.open_corpus(cfg)
    if (theirs := pretraining.open_corpus(reference)).sha256 != lock.sha256:
        raise command.UserError(f"{cfg.data.dir} is another corpus than {theirs.directory}: give one data.dir for all")
    evaluated, job = evaluation_job(cfg, reference, seeds), stacked(one.job, seeds)
    return one._replace(
        job=job,
        schedule=Schedule(spec, len(seeds)),
        facts={name: fact for name, fact in one.facts.items() if name != "seed"}
        | {"seeds": list(seeds), "heldout": heldout_facts(reference)},
        first_params=functools.partial(_first_params, cfg, lock, seeds) if cfg.init_from else None,
        compile_programs=lambda mesh, first_step: train_step.compile_programs(
            job, mesh, train_step.jit_evaluate(evaluated, mesh), evaluated.shapes, spec.sizes(first_step)
        ),
        open_data=lambda devices, _: _open_data(cfg, lock, seeds, reference, directory, devices),
    )


def check_tokenizers(cfg: ml_collections.ConfigDict) -> None:
    """Raises UserError unless the models that `cfg` starts and learns from have the tokenizer of its corpus."""
    if (teacher := distillation.find(cfg)) or cfg.init_from:
        lock = pretraining.open_corpus(cfg)
        vocabulary = vocab.load(lock.directory)
        if cfg.init_from:
            pretrained.check_same(cfg.init_from, cfg.model, vocabulary, lock.directory)
        if teacher:
            teacher.check_vocabulary(vocabulary, lock.directory)


def heldout_facts(reference: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns all that decides the held-out rows and their metrics, besides the corpus."""
    rows = {key: reference.data[key] for key in ROW_KEYS}
    batches = {"batch_size": reference.batch_size, "num_batches": reference.eval.num_batches}
    return rows | batches | {"objective": reference.get("objective", "mlm_nsp")}


def heldout_warnings(reference: ml_collections.ConfigDict) -> list[str]:
    """Returns a warning for each length whose few rows the reference's evaluation repeats."""
    from bert_tpu.data import corpus_batches, host_share

    spec = pretraining.make_batch_spec(reference)
    share = host_share.load(pretraining.open_corpus(reference), "heldout", **spec.without_ramp().row_counts())
    return corpus_batches.short_heldout_warnings(share, spec, reference.eval.num_batches)


def stacked(job: jobs.Job, seeds: Sequence[int]) -> jobs.Job:
    """Returns the Job that trains `job` with each of `seeds` at once; `job` itself for one seed, which is faster alone.

    Of several seeds, batches are [rows, seeds, ...], and the FLOPs those of all together.
    """
    if len(seeds) == 1:
        return dataclasses.replace(job, seed=seeds[0])
    shapes = {
        key: {name: (rows, len(seeds), *rest) for name, (rows, *rest) in arrays.items()}
        for key, arrays in job.shapes.items()
    }
    flops = {key: number * len(seeds) for key, number in job.flops.items()}
    update_flops = job.update_flops * len(seeds)
    return dataclasses.replace(job, seed=tuple(seeds), shapes=shapes, flops=flops, update_flops=update_flops)


def evaluation_job(
    cfg: ml_collections.ConfigDict, reference: ml_collections.ConfigDict, seeds: Sequence[int]
) -> jobs.Job:
    """Returns the Job whose loss and shapes the evaluation has: the reference's, with the sizes of cfg's model.

    Raises UserError if the model has too few positions for the held-out rows.
    """
    mixed = reference.copy_and_resolve_references().unlock()
    mixed.model = cfg.model.copy_and_resolve_references()
    job = pretraining.make_job(mixed)
    return dataclasses.replace(job, seed=tuple(seeds) if len(seeds) > 1 else seeds[0])


def _first_params(
    cfg: ml_collections.ConfigDict, lock: store.Lock, seeds: Sequence[int], like: jobs.Params
) -> jobs.Params:
    """Returns the parameters of `cfg.init_from` for each seed, which draws what the model lacks; sharded as `like`."""
    pretrained.check_same(cfg.init_from, cfg.model, vocab.load(lock.directory), lock.directory)
    start = pretrained.load(cfg.init_from)
    params = [jax.device_get(param_layout.pack(hf.complete(start, seed))) for seed in seeds]
    together = jax.tree.map(lambda *leaves: np.stack(leaves), *params) if len(seeds) > 1 else params[0]
    return jax.tree.map(lambda x, leaf: jax.device_put(x, leaf.sharding), together, like)


def batches(
    streams: Sequence[Iterator[tuple[int, jobs.Batch]]],
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yields (sequence length, batch [rows, seeds, ...]) from an iterator of (sequence length, batch) for each seed.

    Of one seed, batches are [rows, ...].
    """
    if len(streams) == 1:
        yield from streams[0]  # type: ignore[misc]  # of arrays that are joined
        return
    for together in zip(*streams, strict=True):
        (seq_len,) = {seq_len for seq_len, _ in together}
        yield seq_len, {name: np.stack([batch[name] for _, batch in together], axis=1) for name in together[0][1]}


def _open_data(
    cfg: ml_collections.ConfigDict,
    lock: store.Lock,
    seeds: Sequence[int],
    reference: ml_collections.ConfigDict,
    directory: epath.Path,
    devices: int,
) -> trainer.Data:
    from bert_tpu.data import corpus_batches, host_share

    spec, heldout_spec = pretraining.make_batch_spec(cfg), pretraining.make_batch_spec(reference)
    share = host_share.load(lock, "train", **spec.row_counts())
    heldout, _ = evaluation.load(reference, lock, heldout_spec, {})
    epochs = sum(_epochs(corpus_batches.epoch_table(share, spec, n), spec, n) for n in spec.used_lens())

    def batches_from(step: int) -> Iterator[tuple[int, jobs.Batch]]:
        return batches([corpus_batches.train(share, spec._replace(seed=seed), step) for seed in seeds])

    def evaluate(programs: train_step.Programs, mesh: Mesh, state: jobs.State, run_log: log.Log, finished: int) -> None:
        by_length = loop.evaluate(programs, mesh, state.params, heldout)
        run_log.evaluation(finished, jax.tree.map(np.sum, by_length))  # the mean over the seeds
        if finished == cfg.num_steps:
            lengths = {str(n): _finite_means(sums) for n, sums in by_length.items()}
            content = {"step": finished, "seeds": list(seeds), "epochs": epochs, "lengths": lengths}
            storage.write_text(directory / FILE, json.dumps(content, indent=1) + "\n")

    examples_per_row = corpus_batches.examples_per_row(share, spec)
    parts = pretraining.parts_of_lengths(cfg, spec).get(spec.seq_lens[-1], 1)
    notes = row_limits.notes(share.text, spec, examples_per_row, devices * parts)
    of_one = packing.examples_of_steps(examples_per_row, spec)
    examples = {n: count * len(seeds) for n, count in of_one.items()}
    return trainer.Data(batches_from, evaluate, notes, examples)


def _epochs(table: "corpus_batches.ChunkTable | packing.RowPlan", spec: batch_spec.BatchSpec, seq_len: int) -> float:
    """Returns how often the steps of one length show the corpus. table: its epoch_table"""
    single = spec.rows_before(spec.first_nsp_step, seq_len)
    pairs = spec.rows_before(spec.num_steps, seq_len) - single
    chunks = table.epoch_rows if isinstance(table, packing.RowPlan) else table.sizes.chunks
    return float(pairs / table.epoch_rows.sum() + single / chunks.sum())


def _finite_means(sums: jobs.HostSums) -> dict[str, list[float | None]]:
    """Returns metric -> mean of each seed, None if it is not finite. sums: metric -> (sums, counts), [seeds] each."""
    means = {name: np.ravel(total / count).tolist() for name, (total, count) in sums.items()}
    return {name: [value if math.isfinite(value) else None for value in row] for name, row in means.items()}


def read(directory: epath.Path) -> dict[str, Any]:
    """Returns the content of FILE; {} if the run in `directory` has not ended.

    step, seeds: as trained
    epochs: how often the corpus was shown, summed over the lengths
    lengths: sequence length -> metric -> value of each seed
    """
    shape = {"step": int, "seeds": [int], "epochs": float, "lengths": {str: {str: list}}}
    return json_files.read_if_any(directory / FILE, shape)


def save_models(
    directory: epath.Path, cfg: ml_collections.ConfigDict, vocabulary: vocab.Vocab, seeds: Sequence[int]
) -> None:
    """Writes the last parameters of each seed to DIRECTORY/seed-N, which serves as init_from and for an export.

    It also writes the seed's config, versions and held-out metrics, which the model's card shows.
    """
    one = pretrained.shapes_on_device(cfg.model.to_dict())
    front = (len(seeds),) if len(seeds) > 1 else ()
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*front, *x.shape), x.dtype, sharding=x.sharding), one)
    params = jax.tree.map(
        lambda x, leaf: np.reshape(x, (len(seeds), *leaf.shape)),
        jax.device_get(saved_params.load_params(directory, like)),
        one,
    )
    stored = workdir.read_config(directory)
    del stored["seeds"]
    for place, seed in enumerate(seeds):
        folder = directory / f"seed-{seed}"
        workdir.write_tokenizer(folder, vocabulary)
        saved_params.save_params(folder, jax.tree.map(operator.itemgetter(place), params))
        storage.write_text(folder / "config.json", json.dumps(stored | {"seed": seed}, indent=1, sort_keys=True) + "\n")
        lines = _heldout_lines(read(directory), place)
        storage.write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        storage.write_text(folder / versions.FILE, (directory / versions.FILE).read_text())


def _heldout_lines(heldout: Mapping[str, Any], place: int) -> list[dict[str, Any]]:
    """Returns the lines of metrics.jsonl for the seed at `place`. heldout: as returned by `read`"""
    return [
        {"step": heldout["step"], "kind": "eval", "seq_len": int(n)}
        | {name: values[place] for name, values in by_name.items() if values[place] is not None}
        for n, by_name in heldout["lengths"].items()
    ]
