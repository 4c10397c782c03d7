"""Says where the vectors of a sentence-transformers directory differ from those of its encoder alone."""

import json
from pathlib import Path
from typing import Any

from etils import epath

from bert_tpu.core import command

MODULES = "modules.json"
# Keys of 1_Pooling/config.json, without their prefix -> our pools.
PREFIX, POOLS = "pooling_mode_", {"cls_token": "cls", "mean_tokens": "mean"}
KNOWN = ("Transformer", "Pooling", "Normalize")


def note(directory: Path | str, pool: str) -> str:
    """Returns a sentence on how its own vectors differ from the encoder's under `pool`; "" if they do not.

    Lengths of vectors do not count: many such models normalize theirs. Raises UserError for a file that is not JSON.
    """
    folder = epath.Path(directory)
    if not (folder / MODULES).exists() or pool == "tokens":
        return ""
    modules = [module for module in _read(folder / MODULES, list) if isinstance(module, dict)]
    kinds = {str(module.get("type", "")).rpartition(".")[2]: str(module.get("path", "")) for module in modules}
    remarks = []
    if "Pooling" in kinds and (folder / kinds["Pooling"] / "config.json").exists():
        config = _read(folder / kinds["Pooling"] / "config.json", dict)
        modes = [key.removeprefix(PREFIX) for key, value in config.items() if key.startswith(PREFIX) and value is True]
        modes = modes or [str(config.get("pooling_mode", "mean_tokens"))]
        pools = [POOLS.get(mode, POOLS.get(f"{mode}_token", POOLS.get(f"{mode}_tokens", mode))) for mode in modes]
        if pools != [pool]:
            known = pools[0] in POOLS.values() and len(pools) == 1
            remarks.append(f"pools by {' and '.join(pools)}" + (f": give --pool {pools[0]}" if known else ""))
    if others := [kind for kind in kinds if kind not in KNOWN]:
        remarks.append(f"has layers after the encoder that are not computed here ({', '.join(others)})")
    return f"{directory} as sentence-transformers uses it {', and '.join(remarks)}" if remarks else ""


def _read(path: epath.Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, kind):
        raise command.UserError(f"{path} is not what sentence-transformers writes: fetch the model again")
    return content
