"""Files for GLUE's server, https://gluebenchmark.com/submit: a zip of eleven files, with one prediction a line."""

from collections.abc import Sequence
from pathlib import Path
import zipfile

from bert_tpu.core import command
from bert_tpu.readers import tabular

HEADER = ("index", "prediction")
ROWS = {  # file of the server -> rows of the official test split
    "AX.tsv": 1104, "CoLA.tsv": 1063, "MNLI-m.tsv": 9796, "MNLI-mm.tsv": 9847, "MRPC.tsv": 1725, "QNLI.tsv": 5463,
    "QQP.tsv": 390_965, "RTE.tsv": 3000, "SST-2.tsv": 1821, "STS-B.tsv": 1379, "WNLI.tsv": 146,
}  # fmt: skip


def write(path: Path, predictions: Sequence[str]) -> None:
    """Writes the predictions with their index, from 0, to `path`. Creates its folder if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [HEADER, *((str(i), word) for i, word in enumerate(predictions))]
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def pack(folder: Path, archive: Path) -> None:
    """Writes a zip of the eleven files in `folder` to `archive`.

    Raises UserError, and writes nothing, if files are missing (it names all of them) or have other rows than the
    server wants (it names the first).
    """
    if missing := [name for name in ROWS if not (folder / name).exists()]:
        raise command.UserError(f"{folder} lacks {', '.join(missing)}; predict those tasks' test splits first")
    for name, rows in ROWS.items():
        columns = tabular.read(folder / name, HEADER).whole()
        index = columns.column("index")
        columns.column("prediction")
        if index != [str(i) for i in range(rows)]:
            raise command.UserError(
                f"{folder / name} has {len(index)} rows, but the server wants those from 0 to {rows - 1}; "
                "predict the official test split"
            )
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ROWS:
            file.write(folder / name, name)
