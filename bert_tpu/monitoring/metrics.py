"""Metrics of a pretraining: keys in metrics.jsonl, names in reports, and figures that the health checks judge by."""

from typing import NamedTuple

DISTILL_LOSS = "distill_loss"  # of training with a teacher, in nats; see model/soft_targets.py
RELATION_LOSS = "relation_loss"  # with a teacher's relations, in nats; see model/relations.py
UNIGRAM_ENTROPY, COMMONER_LABEL = "unigram entropy", "commoner label"  # figures in health.Facts


class Metric(NamedTuple):
    """A mean over the evaluation split that reports show, besides the loss."""

    name: str  # key in the lines of metrics.jsonl
    label: str  # the task's short name, then the kind of metric: "MLM loss"
    unit: str  # "nats", or for a share "% of " and the things counted
    is_share: bool = False
    baseline: str = ""  # the figure that a model without skill reaches: UNIGRAM_ENTROPY, COMMONER_LABEL or "" for none
    too_good: float | None = None  # a value above is not credible
    advice: str = ""  # what to check if the metric stays at its baseline, or is too good

    @property
    def column(self) -> str:
        """The label, with the unit unless it is a share: "MLM loss, nats"."""
        return self.label if self.is_share else f"{self.label}, {self.unit}"

    @property
    def form(self) -> str:
        """The format of a value in tables."""
        return "{:.1%}" if self.is_share else "{:.3f}"

    @property
    def task(self) -> str:
        """The label without the kind of metric: "MLM"."""
        return self.label.rpartition(" ")[0]


MLM_LOSS = Metric("mlm_loss", "MLM loss", "nats", baseline=UNIGRAM_ENTROPY)
MLM_ACCURACY = Metric(
    "mlm_accuracy",
    "MLM accuracy",
    "% of the masked pieces",
    is_share=True,
    # BERT-large is right at some 70% of the masked pieces of clean text. No compact model comes near that.
    too_good=0.8,
    advice="the training text probably contains the same text, or the text is boilerplate; prepare the corpus with "
    "--duplicates near",
)
NSP_ACCURACY = Metric(
    "nsp_accuracy",
    "NSP accuracy",
    "% of the pairs",
    is_share=True,
    baseline=COMMONER_LABEL,
    advice="check that documents keep the order of their sentences and have more than one (bert-tpu describe)",
)
BEFORE = (MLM_LOSS, MLM_ACCURACY, NSP_ACCURACY)  # of runs whose health.json does not list its metrics
