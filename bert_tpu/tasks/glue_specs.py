"""GLUE's nine tasks and the diagnostics, Wang et al. (2019): their files, classes and submissions.

Their metrics are in metrics.GLUE.
"""

from typing import NamedTuple


class File(NamedTuple):
    """The place of a split on disk."""

    names: tuple[str, ...]  # the possible names of the file
    texts: tuple[str, ...]  # its columns of text
    label: str  # its column of labels
    header: tuple[str, ...] | None = None  # names of all columns, if the file has no header


class Spec(NamedTuple):
    """A task of GLUE."""

    folders: tuple[str, ...]
    classes: tuple[str, ...]  # in the order of TFDS and Hugging Face; empty for a task with scores
    label_texts: tuple[str, ...]  # the classes as TSVs and the server spell them
    features: tuple[str, ...]  # TFDS's names of the texts
    files: dict[str, File]  # split, as TFDS names it -> file; among labelled splits the most important first
    submission: dict[str, str]  # test split, which has no labels -> file for the server
    may_be_torn: bool = False  # True if line breaks within texts tear lines of the official files apart


def _files(*texts: str, label: str = "label", header: tuple[str, ...] | None = None) -> dict[str, File]:
    """Returns the three files that most tasks have."""
    names = {"train": ("train.tsv",), "validation": ("dev.tsv", "validation.tsv")}
    labelled = {split: File(files, texts, label, header) for split, files in names.items()}
    return labelled | {"test": File(("test.tsv",), texts, label)}


NUMBERS = ("0", "1")
PAIR = ("sentence1", "sentence2")
NLI = ("entailment", "neutral", "contradiction")
ENTAILED = ("entailment", "not_entailment")
TASKS = {
    "cola": Spec(
        ("CoLA",), ("unacceptable", "acceptable"), NUMBERS, ("sentence",),
        _files("sentence", header=("source", "label", "mark", "sentence")), {"test": "CoLA.tsv"},
    ),
    "sst2": Spec(
        ("SST-2",), ("negative", "positive"), NUMBERS, ("sentence",), _files("sentence"), {"test": "SST-2.tsv"},
    ),
    "mrpc": Spec(
        ("MRPC",), ("not_equivalent", "equivalent"), NUMBERS, PAIR,
        _files("#1 String", "#2 String", label="Quality"), {"test": "MRPC.tsv"},
    ),
    "stsb": Spec(("STS-B",), (), (), PAIR, _files(*PAIR, label="score"), {"test": "STS-B.tsv"}),
    "qqp": Spec(
        ("QQP",), ("not_duplicate", "duplicate"), NUMBERS, ("question1", "question2"),
        _files("question1", "question2", label="is_duplicate"), {"test": "QQP.tsv"}, may_be_torn=True,
    ),
    "mnli": Spec(
        ("MNLI",), NLI, NLI, ("premise", "hypothesis"),
        {
            "train": File(("train.tsv",), PAIR, "gold_label"),
            "validation_matched": File(("dev_matched.tsv", "validation_matched.tsv"), PAIR, "gold_label"),
            "validation_mismatched": File(("dev_mismatched.tsv", "validation_mismatched.tsv"), PAIR, "gold_label"),
            "test_matched": File(("test_matched.tsv",), PAIR, "gold_label"),
            "test_mismatched": File(("test_mismatched.tsv",), PAIR, "gold_label"),
        },
        {"test_matched": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv"},
    ),
    "qnli": Spec(
        ("QNLI",), ENTAILED, ENTAILED, ("question", "sentence"), _files("question", "sentence"), {"test": "QNLI.tsv"},
    ),
    "rte": Spec(("RTE",), ENTAILED, ENTAILED, PAIR, _files(*PAIR), {"test": "RTE.tsv"}),
    "wnli": Spec(("WNLI",), ENTAILED[::-1], NUMBERS, PAIR, _files(*PAIR), {"test": "WNLI.tsv"}),
    "ax": Spec(
        ("AX", "diagnostic"), NLI, NLI, ("premise", "hypothesis"),
        {
            "answers": File(("diagnostic-full.tsv",), ("Premise", "Hypothesis"), "Label"),
            "test": File(("test.tsv", "AX.tsv", "diagnostic.tsv"), PAIR, "label"),
        },
        {"test": "AX.tsv"},
    ),
}  # fmt: skip
