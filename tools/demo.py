"""Takes text through every command on a laptop: from a vocabulary to a model with a report, in minutes.

bert-tpu demo [--out DIR] [--text GLOB] [--task DIR] [--bias DIR]

Each command is printed with its options, so that you can go on from there with your own. Without --text, the text is
the English documentation of the installed packages, so that nothing is downloaded. Finished parts are kept: the same
command continues a stopped demo. Parts whose packages are not installed are named and left out; the extra `demo` has
these packages.
"""

import argparse
from collections.abc import Sequence
import importlib.util
import multiprocessing
from multiprocessing import connection, forkserver
import os
from pathlib import Path
import re
import runpy
import shlex
import sys
import threading
import time
from typing import NamedTuple
import zlib

from bert_tpu.cli import contents
from bert_tpu.core import command, numerals, progress, storage

# Imported once, by the process that those of the commands are copies of: else each one imports for 2 to 5 s of a core.
PRELOADED = [
    "bert_tpu.bias.audit", "bert_tpu.bias.chart", "bert_tpu.corpus.prepare", "bert_tpu.data.corpus_batches",
    "bert_tpu.export.onnx_files", "bert_tpu.export.pytorch", "bert_tpu.finetune.finetuning",
    "bert_tpu.pretrain.pretraining", "bert_tpu.report.model_card", "bert_tpu.report.page", "bert_tpu.training.replay",
    "torch", "transformers",
]  # fmt: skip
SCORES, ONNX = ("sklearn", "scipy"), ("onnx", "onnxruntime", "onnxscript", "torch", "transformers")
LOG = "log.txt"  # in the folder of a text: output that is too long for a terminal
SILENT_S = 30  # longest time without a line where there is no terminal
PROGRESS = re.compile(r"seq/s$|%\|")  # in lines that are of interest only until the next one


class Stage(NamedTuple):
    """One command of the demo."""

    title: str
    name: str  # of the command
    words: Sequence[str | Path]
    result: Path | None = None  # exists when it is finished; None for a command that finds out itself, in little time
    is_long: bool = False  # its output goes to LOG
    needs: Sequence[str] = ()  # packages that not every installation has


def main() -> None:
    """Runs the commands one after another and says what to open."""
    parser = command.Parser(description=__doc__)
    parser.add_argument(
        "--out", type=storage.local_path, default=Path("demo"), help="folder to write to (default: demo)"
    )
    parser.add_argument("--text", metavar="GLOB", help="text files of your own")
    parser.add_argument(
        "--task", type=Path, metavar="DIR",
        help='folder with train.jsonl and validation.jsonl, lines {"text": ..., "label": ...}, for fine-tuning',
    )  # fmt: skip
    parser.add_argument("--bias", metavar="DIR", help="folder with the benchmarks of bert-tpu bias")
    args = parser.parse_args()
    text = args.text or str(args.out / "text/docs.txt")
    work = args.out / (name_of(args.text) if args.text else "docs")
    began_s = time.monotonic()
    context = _preload()
    possible, left_out = divide(stages(args, text, work))
    todo = [stage for stage in possible if not (stage.result and stage.result.exists())]
    if left_out:
        print(left_out, flush=True)
    work.mkdir(parents=True, exist_ok=True)
    for number, stage in enumerate(todo, start=1):
        minutes, seconds = divmod(int(time.monotonic() - began_s), 60)
        print(f"== {number} of {len(todo)}, at {minutes}:{seconds:02}: {stage.title}", flush=True)
        print(f"   {contents.PROGRAM} {stage.name} {shlex.join(map(str, stage.words))}", flush=True)
        _run(context, stage, work / LOG)
    print(_farewell(work, time.monotonic() - began_s))
    if left_out:
        print(left_out)


def name_of(words: str) -> str:
    """Returns a name for the folder of this input: another text needs another vocabulary and another run."""
    return str(zlib.crc32(words.encode()))


def stages(args: argparse.Namespace, text: str, work: Path) -> list[Stage]:
    """Returns all commands of the demo, in their order.

    text: glob of the text
    work: folder of all that belongs to this text
    """
    run, model, task = work / "run", work / "model", args.task or args.out / "task"
    tuned = work / f"tuned-{name_of(str(task))}"
    tuned_model = tuned.with_name(f"{tuned.name}-model")
    audit = work / (f"audit-{name_of(args.bias)}" if args.bias else "audit")
    benchmarks: list[str | Path] = ["--data", args.bias] if args.bias else ["--data", work, "--tasks", "templates"]
    figures: list[str | Path] = [] if missing("matplotlib") else ["--bias", audit]
    figures += [] if missing(*SCORES) else ["--scores", tuned]
    first = [] if args.text else [
        Stage("text: the documentation of the installed packages", "collect-docs", ["--out", text], Path(text))
    ]  # fmt: skip
    own_task = [] if args.task else [
        Stage("a task: which package is a paragraph about?", "collect-task", ["--out", task], task / "validation.jsonl",
              needs=SCORES)
    ]  # fmt: skip
    return [
        *first,
        Stage("vocabulary", "train-tokenizer",
              ["--input", text, "--vocab_size", "8192", "--out", work / "tokenizer"],
              work / "tokenizer/vocab.txt", is_long=True),
        Stage("corpus", "prepare",
              ["--input", text, "--tokenizer", work / "tokenizer", "--heldout", "0.02", "--out", work / "corpus"]),
        Stage("pretraining, a few minutes", "pretrain",
              ["--config", "demo", f"--config.data.dir={work / 'corpus'}", "--workdir", run], model),
        Stage("export to PyTorch", "export", ["--workdir", run, "--out", model], model),
        *own_task,
        Stage("fine-tuning on the task", "finetune",
              ["--config", "pairs", f"--config.init_from={model}", f"--config.data.train={task / 'train.jsonl'}",
               f"--config.data.validation={task / 'validation.jsonl'}", "--config.optim.learning_rate=1e-3",
               "--config.model.dtype=float32", "--workdir", tuned], tuned_model, needs=SCORES),
        Stage("its export", "export", ["--workdir", tuned, "--out", tuned_model], tuned_model, needs=SCORES),
        Stage("ONNX files with fewer bits", "onnx", ["--model", model, "--workdir", run], model / "onnx",
              is_long=True, needs=ONNX),
        Stage("and of the fine-tuned model", "onnx", ["--model", tuned_model, "--workdir", tuned],
              tuned_model / "onnx", is_long=True, needs=ONNX + SCORES),
        Stage("bias", "bias", ["--model", model, "--out", audit, *benchmarks], audit, is_long=True,
              needs=("matplotlib",)),
        Stage("model card", "card", ["--model", model, "--workdir", run, *figures]),
        Stage("report", "report", ["--workdir", run, "--out", work / "report.html"], needs=("jinja2", "matplotlib")),
        Stage("result", "demo-report", ["--workdir", run, "--corpus", work / "corpus", "--model", model]),
    ]  # fmt: skip


def missing(*packages: str) -> list[str]:
    """Returns those of `packages`, import names, that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def divide(planned: Sequence[Stage]) -> tuple[list[Stage], str]:
    """Returns the stages whose packages are installed, and a sentence about the others; "" if there are none."""
    possible = [stage for stage in planned if not missing(*stage.needs)]
    absent = sorted({name for stage in planned for name in missing(*stage.needs)})
    titles = ", ".join(stage.title for stage in planned if stage not in possible)
    sentence = f"left out for lack of {', '.join(absent)}: {titles}; pip install 'bert_tpu[demo]' and start again"
    return possible, sentence if absent else ""


def _preload() -> multiprocessing.context.BaseContext:
    """Returns the context of the commands' processes; on Linux they are copies of one that imports for all of them."""
    command.quiet_tensorflow()
    if sys.platform != "linux":  # macOS does not allow copies of a process that has loaded its frameworks
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)  # it passes over those that are not installed
    forkserver.ensure_running()
    return context


def _run(context: multiprocessing.context.BaseContext, stage: Stage, log: Path) -> None:
    """Runs a command to its end in a process of its own. If it fails or is stopped, this process ends with its code."""
    module = contents.find(stage.name).module
    name = f"{contents.PROGRAM} {stage.name}"
    words = list(map(str, stage.words))
    errors, end = context.Pipe(duplex=False)
    process = context.Process(target=_become, args=(module, name, words, end, log if stage.is_long else None))  # type: ignore[attr-defined]
    process.start()
    end.close()
    printing = threading.Thread(target=_print, args=(errors, log), daemon=True)
    printing.start()
    command.wait_for(process.join, process.terminate)
    printing.join(timeout=10)  # a process that outlives its command may hold the pipe open
    if process.exitcode:
        print(f"the demo stops here; {contents.PROGRAM} demo with the same options continues it", file=sys.stderr)
        sys.exit(process.exitcode if process.exitcode > 0 else 128 - process.exitcode)


def _print(errors: connection.Connection, log: Path) -> None:
    """Prints a command's standard error: all lines to `log`, lines of progress as one live line, and the others.

    Without a terminal, a line of progress is printed every SILENT_S.
    """
    terminal, printed_s = progress.Terminal(), time.monotonic()
    with open(errors.fileno(), encoding="utf-8", errors="replace", closefd=False) as lines, log.open("a") as file:
        for line in lines:
            file.write(line)
            if PROGRESS.search(line) and (terminal.is_live or time.monotonic() - printed_s < SILENT_S):
                terminal.live(line.rstrip())
            elif line.strip():
                printed_s = time.monotonic()
                terminal.say(line.rstrip())
    terminal.clear()
    errors.close()


def _become(module: str, name: str, words: Sequence[str], errors: connection.Connection, log: Path | None) -> None:
    """Runs a command in this process as `bert-tpu NAME` would. errors: its standard error. log: its output."""
    os.dup2(errors.fileno(), 2)
    errors.close()
    if log:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
    command.set_name(name)
    sys.argv = [name, *words]
    with command.whole_process():
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _farewell(work: Path, seconds: float) -> str:
    products = {
        "report.html": "curves, samples and figures of the pretraining",
        "model": "the model and its card README.md, ready for the Hub",
        LOG: "progress, and the tables of ONNX and bias",
    }
    lines = [
        f"  {work / name!s:<{len(str(work)) + 14}}{what}" for name, what in products.items() if (work / name).exists()
    ]
    return "\n".join([
        f"finished in {numerals.count(round(seconds / 60), 'minute')}. Open", *lines,
        f"Next: {contents.PROGRAM} demo --text 'your/*.txt' for your own text, {contents.PROGRAM} --help for each",
        f"step, {contents.PROGRAM} push --model {work}/model --repo YOUR_NAME/bert-demo for what would go to the Hub.",
    ])  # fmt: skip


if __name__ == "__main__":
    command.run(main)
