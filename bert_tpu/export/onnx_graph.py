"""An exported directory's model as an ONNX graph in float32, by PyTorch's exporter."""

import collections.abc
import contextlib
import json
import logging
from pathlib import Path
import warnings

import numpy as np
import safetensors

from bert_tpu.core import command
from bert_tpu.export import pytorch
from bert_tpu.huggingface import architectures

INPUTS = "input_ids", "attention_mask", "token_type_ids"  # int64 [batch, sequence], as transformers has them
# Under the names by which transformers.js looks for them; ours of the class' outputs -> those.
OUTPUTS = {
    "BertForPreTraining": {"prediction_logits": "logits", "seq_relationship_logits": "seq_relationship_logits"},
    "BertForQuestionAnswering": {"start_logits": "start_logits", "end_logits": "end_logits"},
} | {each.name: {"logits": "logits"} for head, each in architectures.FINETUNED.items() if head != "span"}
PACKAGES = "onnx", "onnxruntime", "onnxscript", "torch", "transformers"
OPSET = 18  # what PyTorch's exporter writes of itself
ROWS, TOKENS = 3, 24  # that PyTorch and onnxruntime are compared on


def config(directory) -> tuple[str, int]:
    """(class of transformers, positions) by config.json of `directory`. Raises UserError for a class not ours."""
    path = Path(directory) / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        [name], positions = found["architectures"], found["max_position_embeddings"]
    except (OSError, ValueError, KeyError, TypeError):
        raise command.UserError(f"{path} is none of an exported model: make it with tools.export_pytorch") from None
    if name not in OUTPUTS:
        raise command.UserError(f"{path} names {name}, which is none of {', '.join(OUTPUTS)}")
    return name, positions


def of(directory):
    """(onnx.ModelProto, the largest difference of a logit): any batch and any length up to the model's positions.

    Tied weights are one initializer. Raises UserError if onnxruntime's logits differ from PyTorch's by more than
    export.TOLERANCE.
    """
    import torch
    import transformers

    name, _ = config(directory)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # "eager" attention is plain products and a softmax, which onnxruntime fuses; "sdpa" becomes a longer graph.
    try:
        loaded = getattr(transformers, name).from_pretrained(directory, attn_implementation="eager").eval()
    except (safetensors.SafetensorError, OSError) as error:
        raise command.UserError(f"{directory} holds no sound weights ({error}): export it again") from None

    class Outputs(torch.nn.Module):
        """The logits alone, as a tuple."""

        def __init__(self):
            super().__init__()
            self.bert = loaded

        def forward(self, input_ids, attention_mask, token_type_ids):
            said = self.bert(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            return tuple(said[key] for key in OUTPUTS[name])

    batch = _batch(loaded.config)
    tensors = tuple(torch.from_numpy(batch[key]) for key in INPUTS)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            Outputs().eval(), tensors, dynamo=True, verbose=False, opset_version=OPSET, input_names=INPUTS,
            output_names=tuple(OUTPUTS[name].values()), dynamic_shapes=(sizes,) * len(INPUTS),
        )  # fmt: skip
        said = Outputs().eval()(*tensors)
    made = program.model_proto
    _forget(made)
    expected = dict(zip(OUTPUTS[name].values(), (each.numpy() for each in said), strict=True))
    return made, _compare(made, batch, expected)


def session(model):
    """A session of onnxruntime, of a ModelProto or of a file's path, on all of the CPU's cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = str(model) if isinstance(model, str | Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _batch(config):
    """Rows of random pieces, two segments each, the first row full and the others padded."""
    rng = np.random.default_rng(0)
    shape = ROWS, min(TOKENS, config.max_position_embeddings)
    place = np.arange(shape[1])
    length = np.linspace(shape[1], 2, ROWS, dtype=int)[:, None]
    real = place < length
    return {
        "input_ids": np.where(real, rng.integers(config.vocab_size, size=shape), 0),
        "attention_mask": real.astype(np.int64),
        "token_type_ids": (real & (place >= length // 2)).astype(np.int64) % config.type_vocab_size,
    }


def _compare(model, batch, expected):
    opened = session(model)
    names = [each.name for each in opened.get_outputs()]
    pairs = {name: (said, expected[name]) for name, said in zip(names, opened.run(names, batch), strict=True)}
    # One number a token, as spans have, is [B, L, 1] like any others of tokens.
    pairs = {
        name: tuple(x[..., None] for x in pair) if name in OUTPUTS["BertForQuestionAnswering"] else pair
        for name, pair in pairs.items()
    }
    return pytorch.compare("onnxruntime", pairs, batch["attention_mask"].astype(bool), "written")


def _forget(message):
    """Clears what the exporter notes on each part of the graph: the stack, with the folders of this machine."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type and field.name != "initializer":
            for part in value if isinstance(value, collections.abc.Iterable) else (value,):
                _forget(part)


@contextlib.contextmanager
def _quiet():
    """Without the exporter's remarks on packages and on its own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
