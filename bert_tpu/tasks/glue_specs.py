"""GLUE's nine tasks and the diagnostics, Wang et al. (2019): how each is stored, judged and handed in."""

from typing import NamedTuple

from bert_tpu.tasks import metrics


class File(NamedTuple):
    """A split on disk: under one of these names, with these columns."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    label: str
    header: tuple[str, ...] | None = None  # of a file that has none


class Glue(NamedTuple):
    """A task of GLUE: how it is stored, judged and handed in. A split in `sent` has no labels."""

    folders: tuple[str, ...]
    classes: tuple[str, ...]  # as TFDS and Hugging Face order them; none for scores
    spelt: tuple[str, ...]  # the classes in TSVs, the server's as well
    measures: dict[str, metrics.Measure]
    features: tuple[str, ...]  # TFDS's names of the texts
    files: dict[str, File]  # by TFDS's name of the split, those that are judged in their order of weight
    sent: dict[str, str]  # test split -> the server's file
    torn: bool = False  # whether official files have lines that a line break in a text tore apart


def _files(*texts: str, label: str = "label", header: tuple[str, ...] | None = None) -> dict[str, File]:
    """The three files of most tasks."""
    names = {"train": "train.tsv", "validation": "dev.tsv"}
    labelled = {split: File((name,), texts, label, header) for split, name in names.items()}
    return labelled | {"test": File(("test.tsv",), texts, label)}


NUMBERS = ("0", "1")
PAIR = ("sentence1", "sentence2")
NLI = ("entailment", "neutral", "contradiction")
ENTAILED = ("entailment", "not_entailment")
ACCURACY = {"accuracy": metrics.ACCURACY}
F1 = {"f1": metrics.F1} | ACCURACY
CORRELATIONS = {"pearson": metrics.PEARSON, "spearman": metrics.SPEARMAN}
TASKS = {
    "cola": Glue(
        ("CoLA",), ("unacceptable", "acceptable"), NUMBERS, {"matthews": metrics.MATTHEWS}, ("sentence",),
        _files("sentence", header=("source", "label", "mark", "sentence")), {"test": "CoLA.tsv"},
    ),
    "sst2": Glue(
        ("SST-2",), ("negative", "positive"), NUMBERS, ACCURACY, ("sentence",),
        _files("sentence"), {"test": "SST-2.tsv"},
    ),
    "mrpc": Glue(
        ("MRPC",), ("not_equivalent", "equivalent"), NUMBERS, F1, PAIR,
        _files("#1 String", "#2 String", label="Quality"), {"test": "MRPC.tsv"},
    ),
    "stsb": Glue(
        ("STS-B",), (), (), CORRELATIONS, PAIR, _files(*PAIR, label="score"), {"test": "STS-B.tsv"},
    ),
    "qqp": Glue(
        ("QQP",), ("not_duplicate", "duplicate"), NUMBERS, F1, ("question1", "question2"),
        _files("question1", "question2", label="is_duplicate"), {"test": "QQP.tsv"}, torn=True,
    ),
    "mnli": Glue(
        ("MNLI",), NLI, NLI, ACCURACY, ("premise", "hypothesis"),
        {
            "train": File(("train.tsv",), PAIR, "gold_label"),
            "validation_matched": File(("dev_matched.tsv",), PAIR, "gold_label"),
            "validation_mismatched": File(("dev_mismatched.tsv",), PAIR, "gold_label"),
            "test_matched": File(("test_matched.tsv",), PAIR, "gold_label"),
            "test_mismatched": File(("test_mismatched.tsv",), PAIR, "gold_label"),
        },
        {"test_matched": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv"},
    ),
    "qnli": Glue(
        ("QNLI",), ENTAILED, ENTAILED, ACCURACY, ("question", "sentence"),
        _files("question", "sentence"), {"test": "QNLI.tsv"},
    ),
    "rte": Glue(("RTE",), ENTAILED, ENTAILED, ACCURACY, PAIR, _files(*PAIR), {"test": "RTE.tsv"}),
    "wnli": Glue(
        ("WNLI",), ENTAILED[::-1], NUMBERS, ACCURACY, PAIR, _files(*PAIR), {"test": "WNLI.tsv"},
    ),
    "ax": Glue(
        ("AX", "diagnostic"), NLI, NLI, {"matthews": metrics.MATTHEWS}, ("premise", "hypothesis"),
        {
            "answers": File(("diagnostic-full.tsv",), ("Premise", "Hypothesis"), "Label"),
            "test": File(("test.tsv", "AX.tsv", "diagnostic.tsv"), PAIR, "label"),
        },
        {"test": "AX.tsv"},
    ),
}  # fmt: skip
