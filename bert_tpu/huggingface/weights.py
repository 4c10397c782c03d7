"""Reads the tensors of a model directory: safetensors or PyTorch's pickles, in one file or in several."""

from collections.abc import Callable, Iterable
import io
import json
import pickle
from typing import Any

from etils import epath
import numpy as np
import safetensors
import safetensors.numpy

from bert_tpu.core import command, downloads, numerals, storage

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
# The files of weights that are read, in this order. An index names the files of a model in several files.
READ = (SAFETENSORS, f"{SAFETENSORS}.index.json", PICKLE, f"{PICKLE}.index.json")
CONVERT = "AutoModelForPreTraining.from_pretrained('{folder}', {flag}=True).save_pretrained(OUT)"
OLD = "in an environment with transformers 4 and {framework}, convert it once by transformers." + CONVERT
FOREIGN = {  # file -> what it is, and the remedy
    "tf_model.h5": ("weights for TensorFlow", OLD.replace("{framework}", "tensorflow").replace("{flag}", "from_tf")),
    "flax_model.msgpack": ("weights for Flax", OLD.replace("{framework}", "flax").replace("{flag}", "from_flax")),
    "adapter_model.safetensors": (
        "a PEFT adapter", "merge it into its base model by peft's merge_and_unload and give what save_pretrained writes"
    ),
    "adapter_model.bin": (
        "a PEFT adapter", "merge it into its base model by peft's merge_and_unload and give what save_pretrained writes"
    ),
    "*.gguf": ("a file of llama.cpp", "give the model that it was converted from"),
    "*.onnx": ("an ONNX graph", "give the model that it was exported from"),
    "model_state.pdparams": ("weights for PaddlePaddle", "give the same model's files for PyTorch"),
    "model_optim_rng.pt": ("a checkpoint of Megatron-LM, which computes layers in another order", "give a BERT"),
    "global_step*": (
        "a checkpoint of DeepSpeed in parts", f"join them by its zero_to_fp32.py and name the result {PICKLE}"
    ),
    "pytorch_model_fsdp*": (
        "a checkpoint of FSDP in parts", "join them by accelerate merge-weights and give what it writes"
    ),
    "rust_model.ot": ("weights for rust-bert", "give the model that it was converted from"),
    "model-*-of-*.safetensors": ("a model in several files without their index", f"fetch {SAFETENSORS}.index.json too"),
    "pytorch_model-*-of-*.bin": ("a model in several files without their index", f"fetch {PICKLE}.index.json too"),
    "*.incomplete": ("an unfinished download", "fetch it again"),
    "*.part": ("an unfinished download", "fetch it again"),
    "*.h5": ("weights for Keras", "give the same model's files for PyTorch"),
    "saved_model.pb": ("a SavedModel of TensorFlow", "give the same model's files for PyTorch, or its checkpoint"),
    "openvino_model*": ("a graph for OpenVINO", "give the model that it was exported from"),
    "onnx/*.onnx": ("an ONNX graph", "give the model that it was exported from"),
    "*.npz": ("arrays of NumPy", f"write them to {SAFETENSORS} by safetensors.numpy.save_file"),
    "*.safetensors": ("weights under another name", f"rename the file to {SAFETENSORS} if it is the whole model"),
    "*.bin": ("weights under another name", f"rename the file to {PICKLE} if it is the whole model"),
    "*.pt": ("weights under another name", f"rename the file to {PICKLE} if it is the whole model"),
    "*.ckpt": ("weights under another name", f"rename the file to {PICKLE} if it is the whole model"),
    "*.pth": ("weights under another name", f"rename the file to {PICKLE} if it is the whole model"),
}  # fmt: skip
WRAPPERS = (
    "state",
    "state_dict",
    "model_state_dict",
    "model",
    "module",
)  # keys under which training programs save the tensors
EXACT = ("float16", "bfloat16", "float32")


def read(directory: epath.Path) -> dict[str, np.ndarray]:
    """Returns all tensors of the model in `directory`, by name. Raises UserError, with the file's name."""
    path = find(directory)
    return _read_indexed(path) if path.name.endswith(".index.json") else _read_file(path)


def find(directory: epath.Path) -> epath.Path:
    """Returns the file of READ that `directory` has. Raises UserError, with what it has instead."""
    for name in READ:
        if downloads.exists(directory / name):
            downloads.check(directory / name)
            return directory / name
    for pattern, (kind, remedy) in FOREIGN.items():
        if found := sorted(path.name for path in storage.named(directory, pattern)):
            raise command.UserError(
                f"{directory} has no {SAFETENSORS}, only {found[0]}, {kind}: {remedy.format(folder=directory)}"
            )
    names = sorted(path.name for path in directory.iterdir())
    raise command.UserError(
        f"{directory} has no weights: it has no {SAFETENSORS}" + (f", but {', '.join(names[:4])}" if names else "")
    )


def as_float32(name: str, tensor: np.ndarray, source: str) -> np.ndarray:
    """Returns `tensor` in float32, value by value the same. Raises UserError if that is impossible."""
    if tensor.dtype.name not in (*EXACT, "float64"):
        raise command.UserError(
            f"{source}: {name} is stored as {tensor.dtype}, as quantized weights are: give the model in float32"
        )
    array = np.asarray(tensor, np.float32)
    if not np.isfinite(array).all():
        raise command.UserError(f"{source}: {name} has values that are not finite: fetch or train the model again")
    if tensor.dtype.name not in EXACT and not np.array_equal(array, tensor):
        raise command.UserError(f"{source}: {name} needs float64: save the model in float32, by model.float()")
    return array


def _read_indexed(path: epath.Path) -> dict[str, np.ndarray]:
    """Returns the tensors of the files that the index `path` names. They must be exactly those of the index."""
    remedy = "fetch the whole model again"
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(places.values()))
        if not files or not all("/" not in file and "\\" not in file for file in files):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError):
        raise command.UserError(f"{path} is not an index of files of weights: {remedy}") from None
    if missing := [file for file in files if not (path.parent / file).exists()]:
        raise command.UserError(
            f"{path} names {numerals.count(len(files), 'file')}, and {missing[0]} is not there ({len(missing)} "
            f"missing): {remedy}"
        )
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        part = _read_file(path.parent / file)
        expected = {name for name, place in places.items() if place == file}
        if other := sorted(part.keys() ^ expected):
            raise command.UserError(f"{path.parent / file} has not the tensors of {path.name} ({other[0]}): {remedy}")
        tensors |= part
    return tensors


def _read_file(path: epath.Path) -> dict[str, np.ndarray]:
    downloads.check(path)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def _read_safetensors(path: epath.Path) -> dict[str, np.ndarray]:
    try:
        if storage.is_bucket(path):
            return safetensors.numpy.load(path.read_bytes())
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, KeyError, TypeError, AttributeError) as error:  # the last: types NumPy lacks
        if isinstance(error, AttributeError):
            raise command.UserError(
                f"{path} has a type that is not read ({_reason(error)}): give the model in float32"
            ) from None
        raise command.UserError(f"{path} is damaged ({_reason(error)}): fetch or export it again") from None


def _read_pickle(path: epath.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ModuleNotFoundError:
        raise command.UserError(f"{path} needs PyTorch: install torch or get a {SAFETENSORS}") from None
    try:
        content = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise command.UserError(
            f"{path} is damaged or holds objects besides tensors, and reading those would run their code: fetch it "
            "again, or save model.state_dict() alone"
        ) from None
    except Exception as error:  # a damaged or foreign pickle may raise anything
        raise command.UserError(f"{path} cannot be read ({_reason(error)}): fetch it again") from None
    return _arrays(content, path, torch.is_tensor)


def _arrays(content: Any, path: epath.Path, is_tensor: Callable[[Any], bool]) -> dict[str, np.ndarray]:
    """Returns the tensors of a pickle, which may be below a key of WRAPPERS. Raises UserError for anything else."""
    if isinstance(content, dict):
        for key in WRAPPERS:
            if isinstance(content.get(key), dict):
                content = content[key]
    others: Iterable[str] = ["no dictionary"]
    if isinstance(content, dict):
        others = [str(name) for name, value in content.items() if not (isinstance(name, str) and is_tensor(value))]
    if others := list(others):
        raise command.UserError(
            f"{path} is not a dictionary of tensors ({', '.join(others[:3])}): save model.state_dict() alone"
        )
    return {name: _array(name, tensor, path) for name, tensor in content.items()}


def _array(name: str, tensor: Any, path: epath.Path) -> np.ndarray:
    """Returns a PyTorch tensor as an array; NumPy has no bfloat16, whose values float32 holds."""
    tensor = tensor.detach()
    try:
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    except (TypeError, RuntimeError):
        raise command.UserError(
            f"{path}: {name} is quantized or sparse ({tensor.dtype}): give the model in float32"
        ) from None


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
