"""Hugging Face's BERT classes: which of them has which of our heads, and what config.json says about the head."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Architecture(NamedTuple):
    """A class of transformers: the encoder with one head."""

    name: str
    head: str  # the head's key in a parameter tree, as in tensor_names.TABLE
    has_pooler: bool
    pipeline_tag: str  # the Hub's name of its purpose
    problem_type: str = ""  # the loss it trains with, for a class that has several


PRETRAINED = {"architectures": ["BertForPreTraining"]}
# The keys are the heads of tasks.task.Task.
FINETUNED = {
    "classify": Architecture(
        "BertForSequenceClassification", "classifier", True, "text-classification", "single_label_classification"
    ),
    "regress": Architecture("BertForSequenceClassification", "classifier", True, "text-classification", "regression"),
    "tag": Architecture("BertForTokenClassification", "classifier", False, "token-classification"),
    "span": Architecture("BertForQuestionAnswering", "qa_outputs", False, "question-answering"),
}
HEADS = tuple(sorted({architecture.head for architecture in FINETUNED.values()}))


def config(architecture: Architecture, labels: Sequence[str]) -> dict[str, Any]:
    """Returns the keys of config.json that describe the head. Readers count the labels in `id2label`."""
    section: dict[str, Any] = {
        "architectures": [architecture.name],
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    return section | ({"problem_type": architecture.problem_type} if architecture.problem_type else {})
