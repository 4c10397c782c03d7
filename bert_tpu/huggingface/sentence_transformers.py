"""Reads and writes the files of sentence-transformers next to an encoder.

`notes` says where the vectors of a sentence-transformers directory differ from those of its encoder alone. `write` adds
the files with which they are equal to those of bert-tpu embed.
"""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

from etils import epath

from bert_tpu.core import command, downloads, storage

MODULES = "modules.json"
# Keys of 1_Pooling/config.json, without their prefix -> our pools.
PREFIX, POOLS = "pooling_mode_", {"cls_token": "cls", "mean_tokens": "mean"}
KNOWN = ("Transformer", "Pooling", "Normalize")
SETTINGS, PROMPTS = "sentence_bert_config.json", "config_sentence_transformers.json"
TOKENIZER = "tokenizer_config.json"


MODES = {pool: mode for mode, pool in POOLS.items()}  # our pools -> keys of 1_Pooling/config.json, without their prefix


def write(directory: Path, pool: str) -> None:
    """Writes modules.json and what it names, so that SentenceTransformer(directory) gives bert-tpu embed's vectors.

    Texts are cut to the model's positions, and vectors are not scaled to the length 1.

    directory: an exported model
    pool: "mean" over all tokens or "cls", the vector of [CLS]
    """
    config = _read(epath.Path(directory) / "config.json", dict)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    pooling = {"word_embedding_dimension": config["hidden_size"], "include_prompt": True}
    pooling |= {PREFIX + mode: name == pool for name, mode in MODES.items()}
    settings = {"max_seq_length": config["max_position_embeddings"], "do_lower_case": False}
    (directory / "1_Pooling").mkdir()
    for name, content in ((MODULES, modules), ("1_Pooling/config.json", pooling), (SETTINGS, settings)):
        (directory / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def lowering(directory: Path | str, lower: bool) -> str:
    """Returns a sentence if the model lower-cases texts before its tokenizer, "" if not or if the tokenizer does.

    directory: of the encoder
    lower: whether the tokenizer lower-cases text
    """
    path = epath.Path(directory) / SETTINGS
    if lower or not downloads.exists(path) or _read(path, dict).get("do_lower_case") is not True:
        return ""
    return (
        f"{directory} as sentence-transformers uses it lower-cases texts ({SETTINGS}), which is not done here: "
        'lower-case the text, or write "do_lower_case": true and "strip_accents": false to its tokenizer_config.json'
    )


def notes(directory: Path | str, pool: str, *, max_positions: int) -> list[str]:
    """Returns a sentence for each further way in which its own vectors differ from the encoder's under `pool`.

    max_positions: tokens to which texts are cut here
    Raises UserError for a file that is not JSON. `directory` may be the one with the encoder, below the model's.
    """
    encoder = storage.absolute(directory)
    folder = encoder if (encoder / MODULES).exists() else encoder.parent
    if not (folder / MODULES).exists():
        return []
    modules = [module for module in _read(folder / MODULES, list) if isinstance(module, dict)]
    kinds = {str(module.get("type", "")).rpartition(".")[2]: str(module.get("path", "")) for module in modules}
    if folder / kinds.get("Transformer", "") != encoder:
        return []
    path = folder / kinds.get("Pooling", "") / "config.json"
    pooling = _read(path, dict) if "Pooling" in kinds and path.exists() else {}
    remarks = _of_text(folder, encoder, max_positions, pooling)
    if pool != "tokens":
        remarks += _of_pooling(pooling, kinds, pool)
    return [f"{directory} as sentence-transformers uses it {remark}" for remark in remarks]


def _of_text(folder: epath.Path, encoder: epath.Path, max_positions: int, pooling: Mapping[str, Any]) -> list[str]:
    """How sentence-transformers changes texts before the encoder. pooling: the config of the layer after it"""
    remarks = []
    settings = _read(encoder / SETTINGS, dict) if (encoder / SETTINGS).exists() else {}
    longest, source = settings.get("max_seq_length"), SETTINGS
    if longest is None and (encoder / TOKENIZER).exists():  # release 6 writes it nowhere else
        longest, source = _read(encoder / TOKENIZER, dict).get("model_max_length"), TOKENIZER
    if isinstance(longest, int) and longest < max_positions:
        remarks.append(f"cuts texts to {longest:,} tokens ({source}), and here they are cut to {max_positions:,}")
    config = _read(folder / PROMPTS, dict) if (folder / PROMPTS).exists() else {}
    prompts, name = config.get("prompts"), config.get("default_prompt_name")
    if name is not None and isinstance(prompts, dict) and (prompt := prompts.get(name)):
        remarks.append(
            f"puts {prompt!r} before each text ({PROMPTS}), which is not done here: put it into the input"
            if pooling.get("include_prompt", True)
            else f"puts {prompt!r} before each text ({PROMPTS}) and leaves its tokens out of the vector, which is not "
            "done here"
        )
    return remarks


def _of_pooling(pooling: Mapping[str, Any], kinds: Mapping[str, str], pool: str) -> list[str]:
    """How sentence-transformers makes another vector of the encoder's."""
    remarks = []
    if pooling:
        modes = [key.removeprefix(PREFIX) for key, value in pooling.items() if key.startswith(PREFIX) and value is True]
        named = pooling.get("pooling_mode", "mean_tokens")
        modes = modes or ([str(mode) for mode in named] if isinstance(named, list) else [str(named)])
        pools = [POOLS.get(mode, POOLS.get(f"{mode}_token", POOLS.get(f"{mode}_tokens", mode))) for mode in modes]
        if pools != [pool]:
            known = pools[0] in POOLS.values() and len(pools) == 1
            remarks.append(f"pools by {' and '.join(pools)}" + (f": give --pool {pools[0]}" if known else ""))
    if others := [kind for kind in kinds if kind not in KNOWN]:
        remarks.append(f"has layers after the encoder that are not computed here ({', '.join(others)})")
    if "Normalize" in kinds:
        remarks.append("scales each vector to the length 1, which is not done here")
    return remarks


def _read(path: epath.Path, kind: type) -> Any:
    downloads.check(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, kind):
        raise command.UserError(f"{path} is not what sentence-transformers writes: fetch the model again")
    return content
