"""Counts the FLOPs of a training step from the sizes of the model."""

from bert_tpu.model import transformer


def tune(bert: transformer.Bert, batch_size: int, seq_len: int, examples: int) -> int:
    """Counts the FLOPs of one step of fine-tuning, as `train` does, without the head, which is small.

    bert: the model
    batch_size, seq_len: rows of a batch, tokens of a row
    examples: in a row, if the last layer is computed at their first tokens alone; 0 if it is at all tokens
    """
    if not examples:
        return train(bert, batch_size, seq_len, 0)
    D, F = bert.hidden_size, bert.intermediate_size
    last = 2 * seq_len * D * D + examples * (2 * D * D + 2 * D * F + 2 * seq_len * D)
    return 3 * 2 * batch_size * ((bert.num_layers - 1) * _layer(bert, seq_len) + last + examples * D * D)


def mlm_scores(bert: transformer.Bert, batch_size: int, seq_len: int, max_predictions: int) -> int:
    """Counts the FLOPs of a forward pass to the MLM head's logits, as `train` does: a teacher's part of a step.

    Arguments are those of `train`.
    """
    D, V = bert.hidden_size, bert.vocab_size
    layers = bert.num_layers * _layer(bert, seq_len)
    return 2 * batch_size * (layers + max_predictions * (D * D + D * V))


def relations(bert: transformer.Bert, teacher: transformer.Bert, batch_size: int, seq_len: int) -> int:
    """Counts the FLOPs of comparing the relations of `bert` with those of `teacher` in one step, as `train` does.

    batch_size, seq_len: rows of a batch, tokens of a row
    """
    return 2 * batch_size * 3 * seq_len * seq_len * (3 * bert.hidden_size + teacher.hidden_size)


def train(bert: transformer.Bert, batch_size: int, seq_len: int, max_predictions: int) -> int:
    """Counts the FLOPs of one training step's matrix products: 2 a multiply-add, the backward pass twice the forward.

    It counts q, k, v, output, feed-forward, scores, weighted sum, pooler and the MLM head on the gathered places, but
    neither elementwise work nor the forward pass that remat repeats.

    bert: the model
    batch_size, seq_len: rows of a batch, tokens of a row
    max_predictions: prediction slots of a row
    """
    D, V = bert.hidden_size, bert.vocab_size
    heads = max_predictions * (D * D + D * V) + D * D + 2 * D
    return 3 * 2 * batch_size * (bert.num_layers * _layer(bert, seq_len) + heads)


def _layer(bert: transformer.Bert, seq_len: int) -> int:
    """Counts the multiply-adds of a layer's forward pass over one row."""
    D, F = bert.hidden_size, bert.intermediate_size
    return seq_len * (4 * D * D + 2 * D * F) + 2 * seq_len * seq_len * D


def update(bert: transformer.Bert, rule: str) -> int:
    """Counts the FLOPs of an update by a rule of training/optim.py: those of all but Muon are negligible."""
    return muon(bert) if rule == "muon" else 0


def muon(bert: transformer.Bert) -> int:
    """Counts the FLOPs of Muon's iterations in one step, which do not depend on the batch.

    Each of the five iterations multiplies a matrix [short, long] with its transpose, the square with itself, and both
    with the matrix (training/muon.py). With a feed-forward size of 4 x the width these are 300 x layers x width ** 3.
    """
    D, F = bert.hidden_size, bert.intermediate_size

    def of_matrix(short: int, long: int) -> int:
        return 5 * 2 * (2 * short * short * long + short**3)

    return bert.num_layers * (4 * of_matrix(D, D) + 2 * of_matrix(min(D, F), max(D, F)))
