"""The runs of an experiment: their steps, their identity, and how one is trained and its result kept.

A run is a workdir in OUT/runs, with some seeds of one arm at one horizon. RESULT in it says that it is finished. A
result belongs to the keys that decide what the run learns, to its seed and to the held-out rows, by a hash of these. So
a changed file gets new runs where they differ, and keeps the others.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
import functools
import json
import math
import os
import pathlib
import shutil
from typing import Any, NamedTuple

from etils import epath
import ml_collections

from bert_tpu.core import command, json_files, jsonl, storage
from bert_tpu.corpus import store
from bert_tpu.huggingface import pretrained
from bert_tpu.monitoring import hours, metrics, versions
from bert_tpu.pretrain import distillation, pretraining, several_seeds
from bert_tpu.recipes import experiment
from bert_tpu.training import jobs, trainer, workdir

RESULT, FOLDER = "result.json", "runs"
TRIAL, AT_HORIZON, LEAVE_OUT = "trial", "horizon", "leave_out"  # kinds of runs
MLM_LOSS, NSP_ACCURACY = metrics.MLM_LOSS.name, metrics.NSP_ACCURACY.name
DIVERGED = 20.0  # nats: as much as of a uniform guess among e^20 pieces, which no vocabulary has
MOST_STEPS, FIRST_GUESS = 2**31 - 1, 1 << 20  # a ramp, as a share, needs more than a few steps

Result = dict[str, Any]  # a line of results.jsonl


class Run(NamedTuple):
    """One arm at one horizon.

    kind: TRIAL, AT_HORIZON or LEAVE_OUT
    label: of a trial, its choice; of a run that leaves a lever out, the lever; else ""
    flops, token_slots: of one seed's steps together
    identities: seed -> hash of all that decides the result
    models: hashes of the models that it starts and learns from
    setting: `config` and `keys` of the file, which say in results.jsonl what was trained
    """

    arm: str
    kind: str
    label: str
    horizon: float
    cfg: ml_collections.ConfigDict
    flops: float
    token_slots: int
    identities: dict[int, str]
    models: dict[str, str]
    setting: dict[str, Any]

    @property
    def name(self) -> str:
        """The run in a few words, for messages."""
        extra = {TRIAL: f", trial {self.label}", AT_HORIZON: "", LEAVE_OUT: f" without {self.label}"}[self.kind]
        return f"{self.arm}{extra}, {self.horizon:.4g} FLOPs"

    def folder(self, seeds: Sequence[int]) -> str:
        """Returns the name of the workdir of these of its seeds."""
        numbers = "-".join(map(str, seeds))
        return f"{self.arm}-{self.horizon:.4g}-seed{numbers}-{self.identities[seeds[0]][:8]}".replace("+", "")


def work(cfg: ml_collections.ConfigDict) -> float:
    """Returns the FLOPs of all steps of a config: of the matrix products, forward and backward (flops.train)."""
    return jobs.work(pretraining.make_job(cfg), pretraining.make_batch_spec(cfg), cfg.num_steps)


def most_steps(work_of: Callable[[int], float], horizon: float, more_than: int = 0) -> int:
    """Returns the largest number of steps whose work is at most `horizon`; `more_than` if one step more has too much.

    work_of: number of steps -> FLOPs. Shares of long steps depend on that number, but it never falls
    more_than: a lower bound; the run must have more steps than this
    """
    low, below, high = more_than, 0.0, more_than + FIRST_GUESS
    while (above := work_of(high)) <= horizon:  # bracket: work_of(low) <= horizon < work_of(high)
        if high == MOST_STEPS:
            return high
        low, below, high = high, above, min(2 * high, MOST_STEPS)
    while high - low > 1:
        share = (horizon - below) / (above - below)
        guess = min(max(low + 1, low + round(share * (high - low))), high - 1)
        spent = work_of(guess)
        if spent <= horizon:
            low, below = guess, spent
            if guess + 1 < high and (next_spent := work_of(guess + 1)) > horizon:
                high, above = guess + 1, next_spent
        else:
            high, above = guess, spent
    return low


def make_run(
    plan: experiment.Experiment, arm: str, kind: str, keys: experiment.Keys, *, label: str = "", horizon: float,
    seeds: Sequence[int], heldout: Mapping[str, Any],
) -> Run:  # fmt: skip
    """Returns a Run of an arm. Raises UserError, with the arm's name, if a key or value is wrong.

    keys: of the arm, with its choices made
    heldout: the corpus and the held-out rows (`heldout_facts`)
    """

    def work_of(number: int) -> float:
        try:
            return work(plan.make_config(keys, number))
        except command.UserError as error:
            guess = f" ({number:,} is a guess at the steps of the horizon)" if f"{number:,}" in str(error) else ""
            raise command.UserError(f"{error}{guess}") from None

    try:
        ramp_steps = _ramp_steps(plan, keys)
        steps = most_steps(work_of, horizon, more_than=ramp_steps)
        if steps == ramp_steps > 0:
            raise command.UserError(
                f"a ramp of {ramp_steps:,} steps takes all of the horizon {horizon:.3g}: shorten it"
            )
        if not steps:
            one = work(plan.make_config(keys, FIRST_GUESS)) / FIRST_GUESS
            raise command.UserError(f"a step takes {one:.3g} FLOPs, more than the horizon {horizon:.3g}: raise it")
        cfg = plan.make_config(keys, steps)
        several_seeds.evaluation_job(cfg, plan.reference(), seeds)
        several_seeds.check_tokenizers(cfg)
        models = _known_hashes(*_model_paths(cfg))
    except command.UserError as error:
        raise command.UserError(f"{plan.path}, arm {arm}: {error}") from None
    spec = pretraining.make_batch_spec(cfg)
    slots = sum(spec.rows_before(steps, n) * n for n in spec.used_lens())
    origins = dict(heldout) | models | {"init_from": ""}  # which may move: its hash is in `models`
    identities = {seed: workdir.identity(cfg.to_dict() | {"seed": seed} | origins) for seed in seeds}
    setting = {"config": plan.config, "keys": {**plan.keys, **keys}}
    return Run(arm, kind, label, horizon, cfg, work(cfg), slots, identities, models, setting)


def _ramp_steps(plan: experiment.Experiment, keys: experiment.Keys) -> int:
    """Returns the steps of a ramp that has a fixed number of them, and which a run must have more of; else 0."""
    steps = {**plan.keys, **keys}.get("ramp.steps", plan.reference().get("ramp", {}).get("steps", 0))
    return steps if isinstance(steps, int) else 0  # the config refuses another type


def _model_paths(cfg: ml_collections.ConfigDict) -> tuple[str, str]:
    return cfg.init_from, cfg.get(distillation.SECTION, {}).get("teacher", "")


def _hash_models(init_from: str, teacher: str) -> dict[str, str]:
    """Returns the hashes of the models that a run starts or learns from. Paths alone do not identify them.

    Raises UserError if one cannot be read, or if the teacher has no MLM head.
    """
    hashes = {}
    if init_from:
        hashes["init_from_sha256"] = pretrained.sha256(pretrained.load(init_from).params)
    if teacher:  # the config has the sizes of a model to start from, but not those of a teacher
        start = pretrained.load(teacher)
        distillation.check_head(start, teacher)
        hashes["teacher_sha256"] = pretrained.sha256(start.params, pretrained.load_origin(teacher).section)
    return hashes


_known_hashes = functools.cache(_hash_models)  # all runs of an arm have the same models


def heldout_facts(reference: ml_collections.ConfigDict, lock: store.Lock) -> dict[str, Any]:
    """Returns what all runs are evaluated on, for `make_run`."""
    # A release with another format cuts the text into other chunks, those of the held-out rows too.
    return {"corpus": lock.sha256, "heldout": several_seeds.heldout_facts(reference), "format": workdir.FORMAT}


def finished(out: pathlib.Path) -> dict[str, Result]:
    """Returns the results of all finished runs in `out`, by identity. Raises UserError for a damaged file."""
    results: dict[str, Result] = {}
    for path in sorted((out / FOLDER).glob(f"*/{RESULT}")):
        content = json_files.read(path, {"results": [{"identity": str, "seed": int}]}, remedy="delete its folder")
        results |= {line["identity"]: line for line in content["results"]}
    return results


def write_results(directory: str | os.PathLike, results: Iterable[Result]) -> None:
    """Writes RESULT of a run's seeds to its workdir: from now on it is finished."""
    path = epath.Path(directory) / RESULT
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_text(path, json.dumps({"results": list(results)}, indent=1) + "\n")


def groups(run: Run, at_once: int, done: Container[str]) -> Iterator[tuple[int, ...]]:
    """Yields the seeds whose identity is not in `done`, in groups that train in one program."""
    seeds = list(run.identities)
    for first in range(0, len(seeds), at_once):
        group = seeds[first : first + at_once]
        if missing := tuple(seed for seed in group if run.identities[seed] not in done):
            yield missing


def train(run: Run, seeds: Sequence[int], out: pathlib.Path, reference: ml_collections.ConfigDict) -> int:
    """Trains seeds of a run, or goes on with them, and writes RESULT; returns the exit code of trainer.run.

    A finished run at a horizon keeps the weights of each seed, in seed-N; others keep none.
    """
    directory = epath.Path(out).absolute() / FOLDER / run.folder(seeds)
    cfg = run.cfg.copy_and_resolve_references()
    with cfg.unlocked():
        cfg.seed = seeds[0]
    if _hash_models(*_model_paths(cfg)) != run.models:
        raise command.UserError(
            f"{run.name}: the model in init_from or distill.teacher has changed since this comparison began: give it a "
            "finished model, and start again"
        )
    training = several_seeds.training(cfg, seeds, reference, directory)
    workdir.check_format(directory)
    try:
        if code := trainer.run(cfg, training, directory):
            return code
    except command.UserError as error:
        raise command.UserError(f"{run.name}: {error}") from None
    heldout = several_seeds.read(directory)
    if heldout.get("step") != cfg.num_steps:
        raise command.UserError(f"{directory} has all steps and lacks {several_seeds.FILE}: delete that folder")
    if run.kind == AT_HORIZON:
        several_seeds.save_models(directory, cfg, training.vocabulary, seeds)
    results = [_result(run, seed, place, directory, heldout) for place, seed in enumerate(seeds)]
    write_results(directory, results)
    shutil.rmtree(directory / "checkpoints", ignore_errors=True)
    return 0


def _result(run: Run, seed: int, place: int, directory: epath.Path, heldout: Mapping[str, Any]) -> Result:
    """Returns a line of results.jsonl. place: of the seed among those that trained together."""
    together = len(heldout["seeds"])
    seconds = hours.read(directory)["seconds"]
    lines = jsonl.read(directory / "metrics.jsonl")
    return {
        "identity": run.identities[seed], "arm": run.arm, "kind": run.kind, "label": run.label,
        "horizon": run.horizon, "seed": seed, "steps": run.cfg.num_steps, "flops": run.flops,
        "token_slots": run.token_slots, "seconds": round(sum(seconds.values()) / together, 3),
        "step_seconds": round((seconds["step"] + seconds["input"]) / together, 3), "at_once": together,
        "epochs": heldout["epochs"], "code": "+".join(dict.fromkeys(line["code"] for line in versions.read(directory))),
        # Of all seeds that trained together: the log does not tell them apart.
        "skipped_steps": round(sum(line.get("skipped", 0) for line in lines)),
        "lengths": {
            n: {name: values[name][place] for name in (MLM_LOSS, NSP_ACCURACY) if name in values}
            for n, values in heldout["lengths"].items()
        },
        "workdir": f"{FOLDER}/{directory.name}", **run.setting,
    }  # fmt: skip


def loss(result: Result) -> float:
    """Returns the mean held-out MLM loss over the lengths, in nats; infinity if one has diverged."""
    losses = [loss_at(result, length) for length in result["lengths"]]
    return sum(losses) / len(losses)


def loss_at(result: Result, length: str) -> float:
    """Returns the held-out MLM loss of a length, in nats; infinity if it is not finite or above DIVERGED."""
    value = result["lengths"][length][MLM_LOSS]
    return math.inf if value is None or value > DIVERGED else float(value)
