"""The commands of bert-tpu in the order of use, with the module that each one runs."""

import difflib
import shutil
import textwrap
from typing import NamedTuple

from bert_tpu.core import command

PROGRAM = "bert-tpu"


class Entry(NamedTuple):
    """A command: its name, the module with its `main`, and what it does."""

    name: str
    module: str
    purpose: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names that start it: its own, and that of its module, with _ or -."""
        last = self.module.split(".")[-1]
        return self.name, last, last.replace("_", "-")


CONTENTS = {
    "All of it, on a laptop": (
        Entry(
            "demo", "bert_tpu.tools.demo", "text, vocabulary, pretraining, export, fine-tuning and report in minutes"
        ),
    ),
    "Text": (
        Entry("train-tokenizer", "bert_tpu.tools.train_tokenizer", "train a WordPiece vocabulary"),
        Entry("prepare", "bert_tpu.tools.prepare_corpus", "turn text into a corpus: clean, deduplicate, tokenize"),
        Entry("describe", "bert_tpu.tools.describe_corpus", "describe and verify a corpus"),
        Entry("show-batches", "bert_tpu.tools.show_batches", "print rows of the batches that a training would see"),
    ),
    "Pretraining": (
        Entry("doctor", "bert_tpu.tools.doctor", "check this machine: chips, driver, packages, speed and one step"),
        Entry("plan", "bert_tpu.tools.plan", "estimate memory, hours, money and energy on absent TPUs"),
        Entry("import", "bert_tpu.tools.import_pytorch", "convert a BERT from elsewhere, to continue its training"),
        Entry("pretrain", "bert_tpu.pretrain", "pretrain a BERT, or continue one"),
        Entry(
            "compare-recipes",
            "bert_tpu.tools.compare_recipes",
            "pretrain with several recipes, and print which needs less compute",
        ),
        Entry("plot", "bert_tpu.tools.plot_metrics", "draw the curves of a run"),
        Entry("report", "bert_tpu.tools.report", "write one HTML page about a run"),
    ),
    "The model": (
        Entry("export", "bert_tpu.tools.export_pytorch", "export a run to PyTorch, in Hugging Face's format"),
        Entry("fill-mask", "bert_tpu.tools.fill_mask", "print the likeliest words for [MASK]"),
        Entry("embed", "bert_tpu.tools.embed", "write a vector for each line of a text"),
        Entry("score", "bert_tpu.tools.score_sentences", "score sentences by how likely a model finds them"),
    ),
    "Fine-tuning": (
        Entry("finetune", "bert_tpu.finetune", "fine-tune on a task or on your own table"),
        Entry("glue", "bert_tpu.tools.glue", "fine-tune on all tasks of GLUE, and print one table"),
        Entry("compare", "bert_tpu.tools.compare", "fine-tune two models alike, and print by how much one is better"),
    ),
    "Publishing": (
        Entry("onnx", "bert_tpu.tools.export_onnx", "write ONNX files in float32, int8 and 4 bits, and measure them"),
        Entry("evaluate", "bert_tpu.tools.evaluate", "evaluate a model with mteb or EuroEval"),
        Entry("bias", "bert_tpu.tools.audit_bias", "measure social bias by four published measures"),
        Entry("card", "bert_tpu.tools.model_card", "write the model card again, with later results"),
        Entry("push", "bert_tpu.tools.push_to_hub", "upload a model to the Hugging Face Hub"),
    ),
    "Speed": (
        Entry("bench", "bert_tpu.tools.bench", "measure batches, preparation and steps next to their peers"),
        Entry("bench-gpu", "bert_tpu.tools.bench_gpu", "time the step on a GPU next to transformers, compare losses"),
        Entry("bench-tpu", "bert_tpu.tools.bench_tpu", "print the compiler's cycles of a step on absent TPUs"),
        Entry("hlo-cost", "bert_tpu.tools.hlo_cost", "print cycles and collectives of a compiled TPU program"),
        Entry("compare-transformers", "bert_tpu.tools.compare_transformers", "repeat fine-tunings with transformers"),
    ),
    "Parts of the demo": (
        Entry("collect-docs", "bert_tpu.tools.collect_docs", "write the documentation of installed packages as text"),
        Entry("collect-task", "bert_tpu.tools.collect_task", "write a task: which package is a paragraph about?"),
        Entry("demo-report", "bert_tpu.tools.demo_report", "print losses, and masks filled by PyTorch"),
    ),
    "This command": (
        Entry("completion", "bert_tpu.cli.completion", "print the completion script of bash, zsh or tcsh"),
    ),
}
ENTRIES = tuple(entry for entries in CONTENTS.values() for entry in entries)


def find(name: str) -> Entry:
    """Returns the command with this name. Raises UserError that names the most similar one if there is none."""
    by_name = {other: entry for entry in ENTRIES for other in entry.names}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name, by_name, n=1, cutoff=0.5)
    hint = f"did you mean {by_name[near[0]].name}?" if near else f"{PROGRAM} --help lists the commands"
    raise command.UserError(f"{PROGRAM} has no command {name}; {hint}")


def page() -> str:
    """Returns the list of all commands as text, as wide as the terminal."""
    width = min(shutil.get_terminal_size().columns, 110)
    label = max(len(entry.name) for entry in ENTRIES) + 4
    lines = [
        f"usage: {PROGRAM} COMMAND [OPTION ...]",
        f"       {PROGRAM} COMMAND --help",
        "",
        "Pretrains compact BERT encoders from raw text in JAX, and exports them to PyTorch. In the order of use:",
    ]
    for group, entries in CONTENTS.items():
        lines += ["", group]
        for entry in entries:
            first, *rest = textwrap.wrap(entry.purpose, max(width - label, 20))
            lines += [f"  {entry.name:<{label - 2}}{first}", *(" " * label + line for line in rest)]
    return "\n".join(lines)
