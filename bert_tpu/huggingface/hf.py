"""Reads and writes a BERT as a Hugging Face directory: weights, config and vocabulary."""

from collections.abc import Mapping
import glob
import json
from pathlib import Path
import re
import sys
from typing import Any, NamedTuple

from etils import epath
import jax
import safetensors.numpy

from bert_tpu.core import command, downloads, storage
from bert_tpu.huggingface import (
    architectures,
    config_json,
    google,
    sentence_transformers,
    spare_rows,
    tensor_names,
    weights,
)
from bert_tpu.model import transformer
from bert_tpu.tokenizer import vocab

HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
ADAPTER = "adapter_config.json"
MOST_PADDING = 128  # rows without a piece that a table has to be a round size for a device


class Pretrained(NamedTuple):
    """The contents of a directory. `params` lacks the heads in `absent`, and has a row for each piece."""

    params: dict[str, Any]
    model: dict[str, Any]  # the `model` section of a config
    vocab: vocab.Vocab
    absent: tuple[str, ...]
    spare: spare_rows.SpareRows | None = None  # more rows of its word table


def complete(pretrained: Pretrained, seed: int = 0) -> dict[str, Any]:
    """Returns all parameters: those of `pretrained`, with its absent heads drawn from `seed`."""
    if not pretrained.absent:
        return pretrained.params
    fresh = transformer.init(transformer.Bert(**pretrained.model), jax.random.key(seed))
    return pretrained.params | {head: jax.device_get(fresh[head]) for head in pretrained.absent}


def save(
    directory: Path | str,
    params: dict[str, Any],
    section: Mapping[str, Any],
    vocabulary: vocab.Vocab,
    head_config: dict[str, Any] = architectures.PRETRAINED,
    spare: spare_rows.SpareRows | None = None,
) -> None:
    """Writes model and tokenizer to `directory`, for `from_pretrained` of transformers 4 and 5.

    params: the tree of transformer.init, perhaps with other heads
    section: the `model` section of a config
    head_config: keys of config.json that describe the heads, such as `architectures`
    spare: rows without a piece, to write after the others
    """
    directory = Path(directory)
    check_vocab(vocabulary, section, directory)
    params, section = spare_rows.join(params, section, spare)
    directory.mkdir(parents=True, exist_ok=True)
    # save_file of safetensors would write a file that only its owner may read (0600).
    data = safetensors.numpy.save(tensor_names.to_hf(params), metadata={"format": "pt"})
    (directory / "model.safetensors").write_bytes(data)
    config = {theirs: section[ours] for ours, theirs in config_json.CONFIG.items()} | config_json.FIXED
    config |= head_config | {"pad_token_id": vocab.ids(vocabulary).pad}
    _write_json(directory / "config.json", config)
    vocab.save(vocabulary, directory, max_length=section["max_positions"])
    _write_json(directory / "special_tokens_map.json", vocab.special_tokens_map(vocabulary))


def load(directory: Path | str) -> Pretrained:
    """Returns the BERT in `directory`, from any of weights.READ or a TensorFlow checkpoint of google-research/bert.

    It prints on standard error what it leaves out: the head of a fine-tuning, and rows without a piece. Raises
    UserError, with the file's name, if a file is missing, damaged or not a BERT's.
    """
    source = epath.Path(directory)
    section, vocabulary = load_config(source)
    pieces, path = section["vocab_size"], _config_path(source)
    if is_google := _is_google(source):  # nothing in it says what its case is
        print(f"{directory} has a tokenizer of {vocab.describe(vocabulary)}", file=sys.stderr)
    if lost := vocab.unreachable(vocabulary):
        print(f"{directory}: {lost}", file=sys.stderr)
    if lowered := sentence_transformers.lowering(source, vocabulary.lower):
        print(lowered, file=sys.stderr)
    tensors = google.read(source) if is_google else weights.read(source)
    tensors = tensor_names.plain(tensors, str(directory))
    rows = config_json.read(path)["vocab_size"]
    params, absent = tensor_names.from_hf(tensors, section | {"vocab_size": rows}, str(directory))
    if heads := tensor_names.finetuned_heads(tensors):
        print(f"{directory} is fine-tuned: only its encoder is used, not its {' and '.join(heads)}", file=sys.stderr)
    params, spare = spare_rows.split(params, pieces)
    if spare is not None:
        last = "is" if rows - pieces == 1 else f"{rows - pieces:,} are"
        kind = "warning: " if rows - pieces > MOST_PADDING else ""
        print(
            f"{kind}{directory} has {rows:,} rows for {pieces:,} pieces: the last {last} never used; if the model was "
            f"trained with {rows:,} pieces, files of its tokenizer are missing, such as added_tokens.json",
            file=sys.stderr,
        )
    return Pretrained(params, section, vocabulary, absent, spare)


def load_config(directory: Path | str) -> tuple[dict[str, Any], vocab.Vocab]:
    """Returns the `model` section and vocabulary of the BERT in `directory`. Raises UserError as `load` does.

    The section's `vocab_size` is the number of pieces, which may be smaller than the number of rows.
    """
    source = epath.Path(directory)
    _check_folder(source)
    section, vocabulary = config_json.read(_config_path(source)), vocab.load(directory)
    if _is_google(source):
        google.check_case(source, vocabulary)
    else:
        weights.find(source)  # before anybody reads data for a model that has none
    if (pieces := len(vocabulary.pieces)) > section["vocab_size"]:
        raise command.UserError(
            f"{directory}: the tokenizer has {pieces:,} tokens, the last is {vocabulary.pieces[-1]!r:.80}, but the "
            f"model has rows for {section['vocab_size']:,} only; put the model's own tokenizer there, or, if you added "
            "tokens, call model.resize_token_embeddings(len(tokenizer)), train the new rows and save the model again"
        )
    return section | {"vocab_size": pieces}, vocabulary


def is_directory_of(path: Path | str) -> bool:
    """Returns whether `path` is a directory in a public format, which `load` reads or refuses by name."""
    folder = epath.Path(path)
    if any((folder / name).exists() for name in (*weights.READ, google.CONFIG, ADAPTER, sentence_transformers.MODULES)):
        return True
    return google.is_checkpoint(folder) or config_json.is_hugging_faces(folder / "config.json")


def missing(path: epath.Path, wanted: str) -> str:
    """Returns the message for a `path` that is not a directory, perhaps as it is a model's name on the Hub."""
    if path.exists():
        return f"{path} is a file: give {wanted}"
    if path.parent.is_dir() and storage.named(path.parent, f"{glob.escape(path.name)}*.index"):
        return f"{path} is the beginning of the names of a TensorFlow checkpoint: give its folder, {path.parent}"
    is_name = HUB_NAME.fullmatch(str(path))
    return f"there is no {path}: give {wanted}" + (
        f"; hf download {path} --local-dir DIR fetches it" if is_name else ""
    )


def _is_google(directory: epath.Path) -> bool:
    return not any((directory / name).exists() for name in weights.READ) and google.is_checkpoint(directory)


def _config_path(directory: epath.Path) -> epath.Path:
    """Returns the path of config.json or, if only that exists, of Google's bert_config.json."""
    old = directory / google.CONFIG
    return old if old.exists() and not (directory / "config.json").exists() else directory / "config.json"


def _check_folder(directory: epath.Path) -> None:
    """Raises UserError for what is not a whole model: a missing directory, an adapter, a part of a model."""
    if not directory.is_dir():
        raise command.UserError(missing(directory, "a directory that save_pretrained wrote"))
    if (directory / ADAPTER).exists():
        raise command.UserError(
            f"{directory} has {ADAPTER}, a PEFT adapter: merge it into its base model by merge_and_unload and give "
            "what save_pretrained writes"
        )
    below = config_below(directory)
    is_sentence_transformers = (directory / sentence_transformers.MODULES).exists()
    config = _config_path(directory)
    # The config.json of an old sentence-transformers model has its version alone.
    if downloads.exists(config) and not (
        is_sentence_transformers and below and not config_json.is_hugging_faces(config)
    ):
        return
    if is_sentence_transformers:
        where = below or "the directory with the encoder's config.json"
        raise command.UserError(
            f"{directory} is a sentence-transformers model, with its encoder below it: give {where}"
        )
    if below:
        raise command.UserError(f"{directory} has no config.json: give {below}, which has one")


def config_below(directory: epath.Path) -> epath.Path | None:
    """Returns the first directory below with a config, as in a cache of the Hub or Google's zip; None without one."""
    below = [path for path in storage.named(directory, "*") if path.is_dir()]
    below += [path for folder in below for path in storage.named(folder, "*") if path.is_dir()]
    found = (path for path in below if any((path / name).exists() for name in ("config.json", google.CONFIG)))
    return next(iter(sorted(path for path in found if "Pooling" not in path.name)), None)


def check_vocab(vocabulary: vocab.Vocab, section: Mapping[str, Any], directory: Path | str) -> None:
    """Raises UserError unless the model has exactly one row for each piece. The message names `directory`."""
    if len(vocabulary.pieces) != section["vocab_size"]:
        raise command.UserError(
            f"{directory}: the vocabulary has {len(vocabulary.pieces):,} pieces, but the model has "
            f"{section['vocab_size']:,}; put the model's own vocabulary there"
        )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
