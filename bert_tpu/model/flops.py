"""The arithmetic of a training step, counted from the sizes of the model."""


def tune(bert, batch_size, seq_len, examples):
    """FLOPs of one step of fine-tuning, counted as in `train`, without the head, which is small.

    examples: of a row, at whose first tokens alone the last layer is computed; 0 where it is at all tokens.
    """
    if not examples:
        return train(bert, batch_size, seq_len, 0)
    D, F = bert.hidden_size, bert.intermediate_size
    whole = seq_len * (4 * D * D + 2 * D * F) + 2 * seq_len * seq_len * D
    last = 2 * seq_len * D * D + examples * (2 * D * D + 2 * D * F + 2 * seq_len * D)
    return 3 * 2 * batch_size * ((bert.num_layers - 1) * whole + last + examples * D * D)


def train(bert, batch_size, seq_len, max_predictions):
    """FLOPs of one training step's matrix products: 2 a multiply-add, backward counted as twice the forward.

    Counts q, k, v, output, feed-forward, scores, weighted sum, pooler and the MLM head on the gathered places; not
    the elementwise work, nor what remat repeats.
    """
    D, F, V = bert.hidden_size, bert.intermediate_size, bert.vocab_size
    layer = seq_len * (4 * D * D + 2 * D * F) + 2 * seq_len * seq_len * D
    heads = max_predictions * (D * D + D * V) + D * D + 2 * D
    return 3 * 2 * batch_size * (bert.num_layers * layer + heads)
