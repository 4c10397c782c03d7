"""Exports the model of a Hugging Face directory as an ONNX graph in float32, with PyTorch's exporter."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
import warnings

import numpy as np
import safetensors

from bert_tpu.core import command
from bert_tpu.export import pytorch
from bert_tpu.huggingface import architectures

if TYPE_CHECKING:
    import onnx

INPUTS = "input_ids", "attention_mask", "token_type_ids"  # int64 [batch, sequence], as transformers has them
# Name of the output in the class of transformers -> name that transformers.js looks for. For vectors it takes the
# logits as such where there is no last_hidden_state.
OUTPUTS = {
    "BertForPreTraining": {
        "prediction_logits": "logits",
        "seq_relationship_logits": "seq_relationship_logits",
        "last_hidden_state": "last_hidden_state",
    },
    "BertForQuestionAnswering": {"start_logits": "start_logits", "end_logits": "end_logits"},
} | {cls.name: {"logits": "logits"} for head, cls in architectures.FINETUNED.items() if head != "span"}
PACKAGES = "onnx", "onnxruntime", "onnxscript", "torch", "transformers"
OPSET = 18  # the default of PyTorch's exporter
ROWS, TOKENS = 3, 24  # of the batch on which PyTorch and onnxruntime are compared


class Session(Protocol):
    """The part of onnxruntime.InferenceSession that is used here."""

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Returns the outputs of these names, or all of them."""

    def get_outputs(self) -> list[Any]:
        """Descriptions of the outputs, each with a `name`."""


def read_config(directory: str | Path) -> tuple[str, int]:
    """Reads (class of transformers, number of positions) from config.json of `directory`.

    Raises UserError for a class that this project does not export.
    """
    path = Path(directory) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        [name], positions = config["architectures"], config["max_position_embeddings"]
    except (OSError, ValueError, KeyError, TypeError):
        raise command.UserError(f"{path} is not that of an exported model: write one with bert-tpu export") from None
    if name not in OUTPUTS:
        raise command.UserError(f"{path} names {name}, which is none of {', '.join(OUTPUTS)}")
    return name, positions


def export(directory: str | Path) -> tuple["onnx.ModelProto", float]:
    """Returns (the graph, the largest difference between an output of onnxruntime and of PyTorch).

    The graph takes any number of rows and any length up to the model's positions. Tied weights are one initializer.
    Raises UserError if an output differs by more than pytorch.TOLERANCE.
    """
    import torch
    import transformers

    name, _ = read_config(directory)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # "eager" attention is plain products and a softmax, which onnxruntime fuses. "sdpa" gives a longer graph.
    try:
        loaded = getattr(transformers, name).from_pretrained(directory, attn_implementation="eager").eval()
    except (safetensors.SafetensorError, OSError) as error:
        raise command.UserError(f"{directory} has no sound weights ({error}): export it again") from None

    class Outputs(torch.nn.Module):
        """A model that returns the arrays of OUTPUTS, as a tuple."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = loaded

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            outputs = self.bert(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids,
                output_hidden_states=True,
            )  # fmt: skip
            arrays = {**outputs, "last_hidden_state": outputs.hidden_states[-1]}
            return tuple(arrays[key] for key in OUTPUTS[name])

    batch = _batch(loaded.config)
    tensors = tuple(torch.from_numpy(batch[key]) for key in INPUTS)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            Outputs().eval(), tensors, dynamo=True, verbose=False, opset_version=OPSET, input_names=INPUTS,
            output_names=tuple(OUTPUTS[name].values()), dynamic_shapes=(sizes,) * len(INPUTS),
        )  # fmt: skip
        logits = Outputs().eval()(*tensors)
    model = cast(torch.onnx.ONNXProgram, program).model_proto  # None only where a file is named
    _clear_notes(model)
    expected = dict(zip(OUTPUTS[name].values(), (array.numpy() for array in logits), strict=True))
    return model, _compare(model, batch, expected)


def session(model: "onnx.ModelProto | str | Path") -> Session:
    """Opens a session of onnxruntime for a ModelProto or the path of a file, on all of the CPU's cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = str(model) if isinstance(model, str | Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _batch(config: Any) -> dict[str, np.ndarray]:
    """Rows of random pieces for a transformers config: two segments each, the first row full, the others padded."""
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


def _compare(model: "onnx.ModelProto", batch: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Returns the largest difference of an output from `expected`; UserError if it is above pytorch.TOLERANCE."""
    runtime = session(model)
    names = [output.name for output in runtime.get_outputs()]
    pairs = {}
    for name, ours in zip(names, runtime.run(names, batch), strict=True):
        theirs = expected[name]
        # A span's output has one number a token: [B, L] becomes [B, L, 1], like every output of tokens.
        is_span = name in OUTPUTS["BertForQuestionAnswering"]
        pairs[name] = (ours[..., None], theirs[..., None]) if is_span else (ours, theirs)
    return pytorch.compare("onnxruntime", pairs, batch["attention_mask"].astype(bool), "written")


def _clear_notes(message: Any) -> None:
    """Clears the exporter's notes on each part of the graph: stack traces, with the folders of this machine."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type and field.name != "initializer":
            for part in value if isinstance(value, Iterable) else (value,):
                _clear_notes(part)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's remarks on packages and on its own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
