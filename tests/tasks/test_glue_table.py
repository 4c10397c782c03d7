"""The table of GLUE's scores: each in its place, and an average only where all tasks are there."""

import pytest

from bert_tpu.tasks import glue_table


def of(*means):
    """A task's summary of its scores on the validation split."""
    return {name: {"mean": m, "std": 0.01, "best": m + 0.02, "interval": (m - 0.1, m + 0.1)} for name, m in means}


ONE = {
    "mrpc": {"validation": of(("f1", 0.9), ("accuracy", 0.85))},
    "cola": {"validation": of(("matthews", 0.5))},
    "mnli": {"validation_matched": of(("accuracy", 0.8)), "validation_mismatched": of(("accuracy", 0.82))},
}
REST = {
    "qqp": {"validation": of(("f1", 0.7), ("accuracy", 0.9))},
    "qnli": {"validation": of(("accuracy", 0.88))},
    "sst2": {"validation": of(("accuracy", 0.92))},
    "stsb": {"validation": of(("pearson", 0.86), ("spearman", 0.84))},
    "rte": {"validation": of(("accuracy", 0.6))},
}


def test_columns_are_those_of_the_tasks_that_are_there_in_the_paper_s_order():
    lines = glue_table.markdown(ONE).splitlines()
    assert lines[0] == "|  | MNLI-(m/mm) | CoLA | MRPC |"
    assert lines[2] == "| mean | 80.0/82.0 | 50.0 | 90.0/85.0 |"
    assert lines[3] == "| standard deviation | 1.0/1.0 | 1.0 | 1.0/1.0 |"
    assert lines[4] == "| best | 82.0/84.0 | 52.0 | 92.0/87.0 |"
    assert lines[5] == "| 95% of rows drawn | 70.0..90.0/72.0..92.0 | 40.0..60.0 | 80.0..100.0/75.0..95.0 |"


@pytest.mark.parametrize("wnli", [{}, {"wnli": {"validation": of(("accuracy", 0.1))}}])
def test_the_average_is_that_of_the_eight_tasks(wnli):
    average = (0.81 + 0.8 + 0.88 + 0.92 + 0.5 + 0.85 + 0.875 + 0.6) / 8
    lines = glue_table.markdown(ONE | REST | wnli).splitlines()
    assert lines[0].endswith("| WNLI | Average |" if wnli else "| RTE | Average |")
    assert lines[2].split(" | ")[-1] == f"{100 * average:.1f} |"
    assert "Average" not in glue_table.markdown(ONE | wnli)
