"""Evaluates a model while it pretrains: loss and accuracy on held-out text, sample predictions, health checks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh
import ml_collections

from bert_tpu.corpus import store
from bert_tpu.data import batch_spec
from bert_tpu.monitoring import health, log
from bert_tpu.pretrain import samples
from bert_tpu.training import jobs, loop, train_step


def load(
    cfg: ml_collections.ConfigDict, lock: store.Lock, spec: batch_spec.BatchSpec, host: Mapping[str, Any]
) -> tuple[list[tuple[int, jobs.Batch]], list[str]]:
    """Returns the evaluation's (sequence length, batch) and warnings about them; ([], []) if the config has none.

    cfg, lock, spec: of the run, its corpus and its training batches
    host: process_index and process_count of host_share.load, whose rows are loaded
    """
    from bert_tpu.data import corpus_batches, host_share

    if not cfg.eval.num_batches:
        return [], []
    share = host_share.load(lock, "heldout", **spec.without_ramp().row_counts(), **host)
    warnings = corpus_batches.short_heldout_warnings(share, spec, cfg.eval.num_batches)
    batches: list[tuple[int, jobs.Batch]] = [*corpus_batches.heldout(share, spec, cfg.eval.num_batches)]
    return batches, [f"warning: {sentence}" for sentence in warnings]


def make(
    heldout: Sequence[tuple[int, jobs.Batch]], chosen: samples.Chosen | None, pieces: Sequence[str],
    facts: health.Facts, num_steps: int,
) -> Callable[[train_step.Programs, Mesh, jobs.State, log.Log, int], None]:  # fmt: skip
    """Returns trainer.Data.evaluate: it logs the metrics of `heldout`, guesses at the chosen rows, and health checks.

    pieces: of the vocabulary, by id
    """
    warned: set[str] = set()

    def evaluate(programs: train_step.Programs, mesh: Mesh, state: jobs.State, run_log: log.Log, finished: int) -> None:
        run_log.evaluation(finished, loop.evaluate(programs, mesh, state.params, heldout))
        if chosen is not None:
            run_log.samples(finished, samples.predict(programs.samples, mesh, state.params, chosen, pieces))
            run_log.write_facts(facts)
        lines = run_log.lines()
        if sentence := health.remark(lines, facts, num_steps):
            run_log.remark(finished, sentence)
        for finding in health.check(lines, facts):
            if finding.name not in warned:
                warned.add(finding.name)
                run_log.say(f"warning: {finding.sentence}")

    return evaluate
