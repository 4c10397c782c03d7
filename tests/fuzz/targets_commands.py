"""Command lines: most of them valid but for one or two words, in a folder that has what they name."""

import contextlib
import functools
import importlib
import io
import os
import pathlib
import pkgutil
import re
import subprocess
import sys
import tempfile
import types
from unittest import mock

from hypothesis import strategies as st

from bert_tpu.core import command
from fuzz import command_world
from fuzz.target import Target
import tools
from tools import collect_docs

ARGUMENTS = (
    "nowhere", "text.txt", "binary.bin", "empty", "emptyfolder", "vocabulary", "model", ".", "..", "", "-", "-1", "0",
    "1", "2.5", "nan", "1e9", "é🙂", "*", "**", "[", "~nobody", "a=b", "=", "x" * 300, "tfds:", "tfds:nothing", "hf://",
    "hf://datasets/a/b", "configs/demo.py", "configs/ner.py", "configs/nowhere.py", "gs:/x", "file\n2", "v5e:4x4",
    "v9:1", "text", "auto", "NFC", "medium", "corpus", "run", "export", "tuned", "bias", "99999999999999999999",
)  # fmt: skip

MICRO = (
    "--config=configs/bert.py:micro", "--config.data.dir=corpus", "--config.model.vocab_size=105",
    "--config.data.seq_lens=(16,32)", "--config.data.max_predictions=(3,5)", "--config.model.max_positions=32",
    "--config.batch_size=2",
)  # fmt: skip
# Lines that are accepted within a second or two, by command. In brackets are words that may be added.
LINES = {
    "tools.audit_bias": [("--model model --data bias --out out --tasks crows",)],
    "tools.bench": [("--text text.txt --only data",), ("--text text.txt --only prepare",), ("--only step tuning",)],
    "tools.bench_tpu": [("--config=configs/bert.py:medium --topology v5e:4x4", "--lengths 128", "--lengths 512")],
    "tools.collect_docs": [("--out out.txt",), ("--out deep/out.txt", "--requirements requirements.txt")],
    "tools.compare_transformers": [("tuned",), ("tuned tuned",)],
    "tools.demo_report": [("--workdir run --corpus corpus --model export",)],
    "tools.describe_corpus": [("corpus", "--verify", "--out a.png")],
    "tools.embed": [("--model model --input text.txt --out out.npy", "--pool cls", "--layer 1", "--batch_size 8")],
    "tools.export_pytorch": [("--workdir run --out out",)],
    "tools.fill_mask": [("--model model the_[MASK]_sat", "--top_k 3"), ("--model model [MASK] a_[MASK]_[MASK]",)],
    "tools.hlo_cost": [("program.hlo", "--top 2"), ("program.hlo program.hlo",)],
    "tools.import_pytorch": [
        ("--model model --out out", "--tokenizer vocabulary", "--tokenizer vocabulary --rows copied")
    ],
    "tools.model_card": [("--model export --workdir run",)],
    "tools.plot_metrics": [("--workdir run --out out.png", "--corpus corpus")],
    "tools.prepare_corpus": [
        ("--input text.txt --tokenizer vocabulary --out out --heldout 0.1 --workers 1", "--duplicates near",
         "--min_tokens 5", "--language en", "--normal_form NFKC", "--keep_licence", "--mix text.txt=2",
         "--format text", "--decontaminate bias"),
        ("--input *.txt --tokenizer model --sample 2", "--duplicates keep", "--format file"),
    ],
    "tools.push_to_hub": [("--model export --repo me/b", "--public")],
    "tools.report": [("--workdir run", "--out r.html", "--compare run")],
    "tools.score_sentences": [("--model model the_cat", ), ("--model model --input text.txt --out out.jsonl",)],
    "tools.show_batches": [(" ".join(MICRO), "--rows 1", "--steps 2", "--hosts 2", "--json")],
    "tools.train_tokenizer": [
        ("--input text.txt --vocab_size 180 --out out --cased",),
        ("--input text.txt --vocab_size 150 --out out", "--format text"),
    ],
}  # fmt: skip


def _commands():
    """The modules of all commands."""
    names = {module.name for module in pkgutil.iter_modules(tools.__path__) if module.name[0] != "_"}
    names.remove("demo")  # it runs the others for minutes
    return [*(f"tools.{name}" for name in sorted(names)), "bert_tpu.pretrain.__main__", "bert_tpu.finetune.__main__"]


@functools.cache
def _options(name):
    """The options that a command's --help lists."""
    output, _, _ = _run(name, ["--help"], ".")
    return sorted(set(re.findall(r"--[a-z_]+", output)) - {"--help"})


@st.composite
def _command_lines(draw):
    """Draws (module, words): a valid line with up to two odd words, or any options of a command."""
    if draw(st.integers(0, 4)) == 0:
        name = draw(st.sampled_from(_commands()))
        words = []
        for option in draw(st.lists(st.sampled_from(_options(name) or ["--help"]), max_size=4, unique=True)):
            words += [option, *draw(st.lists(st.sampled_from(ARGUMENTS), min_size=0, max_size=1))]
    else:
        name = draw(st.sampled_from(sorted(LINES)))
        line, *more = draw(st.sampled_from(LINES[name]))
        chosen = draw(st.lists(st.sampled_from(more), max_size=3, unique=True)) if more else []
        words = [word.replace("_[", " [").replace("]_", "] ") for part in (line, *chosen) for word in part.split()]
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2)))):
        place = draw(st.integers(0, len(words)))
        match draw(st.sampled_from(("change", "change", "insert", "remove"))):
            case "insert":
                words.insert(place, draw(st.sampled_from((*ARGUMENTS, "--", "--nothing", "--config.x=1"))))
            case "remove":
                del words[place : place + 1]
            case "change" if place < len(words):
                words[place] = draw(st.sampled_from(ARGUMENTS))
    return name, words


def _check_command(drawn):
    """A command ends with one line that says what is wrong, or well, and then writes and prints the same again."""
    outcomes = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            command_world.fill(folder)
            output, end, errors = _run(*drawn, folder)
            files = {_masked(str(path.relative_to(folder))) for path in pathlib.Path(folder).rglob("*")}
            outcomes.append((_masked(output.replace(folder, "")), files))
        if isinstance(end, str):
            if "\n" in end.strip() or not end.startswith("error: "):
                raise RuntimeError(f"not one sentence: {end}")
            raise command.UserError(end)
        assert end in (None, 0), f"exit code {end}: {output} {errors}"
    assert outcomes[0] == outcomes[1]


def _masked(text):
    """The text without its numbers, which may be times, and without the names that a run draws."""
    return re.sub(r"[0-9a-f]{16,}|[0-9][0-9.,:]*|\s+", "#", text)


def _run(name, words, folder):
    """(output, exit code or message, errors) of a command, run in this process in `folder`, with small programs."""
    module = importlib.import_module(name)
    output, errors, before = io.StringIO(), io.StringIO(), os.getcwd()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", [name, *words]))
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(errors))
        stack.enter_context(_quick(name, module))
        os.chdir(folder)
        try:
            command.run(module.main)
            return output.getvalue(), 0, errors.getvalue()
        except SystemExit as end:
            return output.getvalue(), end.code, errors.getvalue()
        finally:
            os.chdir(before)


@contextlib.contextmanager
def _quick(name, module):
    """Replaces what a command measures or compiles for minutes, and processes, by something quick."""
    with contextlib.ExitStack() as stack:

        def replace(*where, by):
            stack.enter_context(mock.patch.object(*where, by))

        if name == "tools.bench":
            step, rates = module._bench_step, module._bench_step.Rates(1.0, 1.0, 1.0)
            measured = step.Step("float32", "float32", rates)
            replace(module, "VOCAB_SIZE", by=150)
            replace(step, "alternate", by=lambda ours, peer, rounds=1: rates if ours() and peer() else None)
            replace(step, "pretrain", by=lambda: measured)
            replace(step, "tuning", by=lambda lengths: measured)
            replace(module._bench_save, "line", by=lambda directory: "a checkpoint")
            replace(module, "subprocess", by=mock.Mock(run=_prepare))
        if name == "tools.bench_tpu":
            replace(module.plan, "plan_lengths", by=_plan_lengths)
        if name in ("tools.bench", "tools.collect_docs"):
            futures = types.SimpleNamespace(ProcessPoolExecutor=InThisProcess)
            replace(collect_docs, "concurrent", by=types.SimpleNamespace(futures=futures))
            replace(collect_docs, "own_requirements", by=lambda: ["packaging", "tqdm"])  # all have 8,000 files
        yield


def _plan_lengths(cfg, topology, job, lens):
    """Plans of a small program for all lengths but the last, which does not fit."""
    from bert_tpu.planning import compiler, cost, plan

    small = cost.program_cost(command_world.PROGRAM)
    fits = compiler.Program(1.0, 1, 2, compiler.Memory(1, 1, 1, 1, 1), small, 1.0, command_world.PROGRAM)
    programs = dict.fromkeys(lens, fits) | {lens[-1]: compiler.Program(1.0, 2, 1, None, None, None, None)}
    return {n: plan.plan_length(topology, program, 1.0) for n, program in programs.items()}


def _prepare(words, **_):
    """Does the work of a process, a preparation, in this process. words: its command line."""
    from bert_tpu.corpus import prepare

    options = dict(zip(words[3::2], words[4::2], strict=True))
    try:
        prepare.prepare([options["--input"]], options["--tokenizer"], options["--out"], workers=1)
    except command.UserError as error:
        return subprocess.CompletedProcess(words, 1, "", f"error: {error}\n")
    return subprocess.CompletedProcess(words, 0, "", "")


class InThisProcess(contextlib.nullcontext):
    """A pool of this process, which has too many threads to be copied."""

    def __init__(self, initializer=None):
        super().__init__()

    def map(self, function, values, chunksize):
        """The results; a text is read once for all inputs."""
        return map(functools.cache(function), values)

    def __enter__(self):
        return self


def output(module, *words):
    """The output of a command. Raises UserError if the command ends in one sentence."""
    printed = io.StringIO()
    argv = mock.patch.object(sys, "argv", ["command", *map(str, words)])
    with argv, contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(printed):
        try:
            module.main()
        except OSError as error:
            raise command.UserError(command.sentence(error)) from error
    return printed.getvalue()


def targets():
    """The targets of this file."""
    return [Target("command lines", _command_lines(), _check_command, 0.7, command_world.make)]
