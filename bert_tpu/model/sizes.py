"""Checks the sizes of an encoder."""

from bert_tpu.core import command
from bert_tpu.model import activation, transformer


def check(bert: transformer.Bert, seq_len: int) -> None:
    """Raises UserError for sizes that do not make an encoder, or not one for rows of `seq_len` tokens."""
    sizes = (
        f"hidden_size {bert.hidden_size} does not divide over num_heads {bert.num_heads}: set a number of heads that "
        "divides it"
    )
    forms = ", ".join(activation.FORMS)
    for is_valid, complaint in (
        (bert.hidden_size % bert.num_heads == 0, sizes),
        (seq_len <= bert.max_positions, f"max_positions {bert.max_positions} is less than the rows' {seq_len} tokens"),
        (bert.activation in activation.FORMS, f"activation {bert.activation!r} is none of {forms}"),
        (bert.dtype in ("bfloat16", "float32"), f"dtype {bert.dtype!r} is neither bfloat16 nor float32"),
        (0 < bert.layer_norm_eps < 1, f"layer_norm_eps {bert.layer_norm_eps} is not between 0 and 1"),
        (0 <= bert.dropout < 1 and 0 <= bert.attention_dropout < 1, "dropout rates must be at least 0 and below 1"),
    ):
        if not is_valid:
            raise command.UserError(f"config.model: {complaint}")
