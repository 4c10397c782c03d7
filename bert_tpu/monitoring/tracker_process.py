"""The process that passes a run's lines to one tracker, so that the tracker can neither stop nor slow the training.

It is a program of its own that imports none of this project. It reads JSON lines on stdin and answers each on stdout:

    {"name": ..., "id": ..., "directory": ..., "config": {...}}    -> {"id": ...}    the run is open
    {"step": ..., "values": {...}}                                 -> {"taken": step}
    {"end": true or false}                                         -> {"ended": true}

"id" is "" for a new run. "end" says whether all steps are done. An end of stdin without it means that the training was
killed. {"failed": reason} in place of an answer ends the process, and {"note": text} comes before one.
"""

from collections.abc import Callable
import contextlib
import json
import os
import secrets
import sys
import time
from typing import Any, NamedTuple
import warnings

PROJECT = "bert_tpu"  # unless the tracker's own environment variable names another
MOST_PARAMS = 100  # that MLflow takes in a request


class Tracker(NamedTuple):
    """An open run of a tracker."""

    id: str
    log: Callable[[int, dict[str, float]], None]  # takes a step and its values
    end: Callable[[str], None]  # takes "complete", "stopped" or "killed"


def open_wandb(name: str, run_id: str, directory: str, config: dict[str, Any]) -> Tracker:
    """Opens a run of Weights & Biases. It takes no step twice: of an earlier step it drops the values itself."""
    import wandb

    folder = None if "WANDB_DIR" in os.environ else directory
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT), name=name, id=run_id or secrets.token_hex(4), resume="allow",
        config=config, dir=folder,
    )  # fmt: skip
    return Tracker(
        run.id,
        lambda step, values: run.log(values, step=step),
        lambda how: run.finish(exit_code=0 if how != "killed" else 1),
    )


def open_mlflow(name: str, run_id: str, directory: str, config: dict[str, Any]) -> Tracker:
    """Opens a run of MLflow, where MLFLOW_TRACKING_URI says."""
    from mlflow import entities, tracking

    client, is_unsure = tracking.MlflowClient(), bool(run_id)
    if not run_id:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = client.get_experiment_by_name(experiment)
        run_id = client.create_run(
            known.experiment_id if known else client.create_experiment(experiment), run_name=name
        ).info.run_id
        params = [entities.Param(key, str(value)[:500]) for key, value in config.items()]
        for first in range(0, len(params), MOST_PARAMS):
            client.log_batch(run_id, params=params[first : first + MOST_PARAMS])
    client.update_run(run_id, status="RUNNING")

    history = client.get_metric_history

    def log(step: int, values: dict[str, float]) -> None:
        nonlocal is_unsure
        if is_unsure:  # a line may have arrived without an answer before a kill, and MLflow would keep it twice
            missing = {k: v for k, v in values.items() if step not in [m.step for m in history(run_id, k)]}
            is_unsure, values = len(missing) < len(values), missing
        now_ms = time.time_ns() // 1_000_000
        client.log_batch(run_id, [entities.Metric(key, value, now_ms, step) for key, value in values.items()])

    states = {"complete": "FINISHED", "stopped": "KILLED", "killed": "KILLED"}
    return Tracker(run_id, log, lambda how: client.set_terminated(run_id, states[how]))


def open_trackio(name: str, run_id: str, directory: str, config: dict[str, Any]) -> Tracker:
    """Opens a run of trackio, which knows a run by its name."""
    import trackio

    run = trackio.init(
        project=os.environ.get("TRACKIO_PROJECT", PROJECT), name=run_id or f"{name}-{secrets.token_hex(3)}",
        resume="allow", config=config, embed=False, auto_log_gpu=False, auto_log_cpu=False,
    )  # fmt: skip
    return Tracker(run.name, lambda step, values: run.log(values, step=step), lambda how: run.finish())


OPEN: dict[str, Callable[[str, str, str, dict[str, Any]], Tracker]] = {
    "trackio": open_trackio, "wandb": open_wandb, "mlflow": open_mlflow,
}  # fmt: skip


def main(name: str) -> None:
    """Serves the tracker `name` until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # trackers print at their start and end, which would disturb the training's own lines
        os.dup2(nowhere, stream)

    def answer(content: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # of a training that was killed; stdin then ends
            answers.write(json.dumps(content) + "\n")

    # trackio warns where others raise.
    warnings.showwarning = lambda message, *_, **__: (
        answer({"note": str(message)}) if str(message).startswith("trackio") else None
    )
    how = "killed"
    try:
        first = json.loads(sys.stdin.readline())
        tracker = OPEN[name](first["name"], first["id"], first["directory"], first["config"])
        answer({"id": tracker.id})
        for text in sys.stdin:
            message = json.loads(text)
            if "end" in message:
                how = "complete" if message["end"] else "stopped"
                break
            tracker.log(message["step"], message["values"])
            answer({"taken": message["step"]})
        tracker.end(how)
        answer({"ended": True})
    except BaseException as error:  # a tracker may raise anything, SystemExit too
        answer({"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})
        answers.close()
        os._exit(1)  # without the tracker's own work at exit, which may wait for what has just failed


if __name__ == "__main__":
    main(sys.argv[1])
