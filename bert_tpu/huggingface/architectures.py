"""Hugging Face's classes of a BERT: which one has our head, what its config.json says, what its tensors are called."""

from typing import Any, NamedTuple


class Class(NamedTuple):
    """A class of transformers with one head on the encoder."""

    name: str
    head: str  # its place in a tree of parameters, a row of names.TABLE
    has_pooler: bool
    use: str  # what the Hub calls that which it is for
    problem: str = ""  # what its training minimizes, where the class could minimize several


PRETRAINED = {"architectures": ["BertForPreTraining"]}
# Of tasks.task.Task's heads.
FINETUNED = {
    "classify": Class(
        "BertForSequenceClassification", "classifier", True, "text-classification", "single_label_classification"
    ),
    "regress": Class("BertForSequenceClassification", "classifier", True, "text-classification", "regression"),
    "tag": Class("BertForTokenClassification", "classifier", False, "token-classification"),
    "span": Class("BertForQuestionAnswering", "qa_outputs", False, "question-answering"),
}
HEADS = tuple(sorted({each.head for each in FINETUNED.values()}))


def config(made: Class, labels) -> dict[str, Any]:
    """What config.json says of the head; the number of labels is that of its `id2label`."""
    said = {
        "architectures": [made.name],
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    return said | ({"problem_type": made.problem} if made.problem else {})
