"""Refuses exports of annotation tools whose rows are not what their text and label say."""

from collections.abc import Mapping, Sequence
from typing import Any

from bert_tpu.core import command

ANSWERS = {"accept", "reject", "ignore"}  # what an annotator of Prodigy says about a row


def check(
    path: str, rows: Sequence[Mapping[str, Any]], numbers: Sequence[int], unit: str, wanted: tuple[str, ...]
) -> None:
    """Raises UserError for Label Studio's whole JSON, and if a row was rejected in Prodigy, whose label is then wrong.

    path: of the file
    rows, numbers: the rows, and the number of each
    unit: what `numbers` count, such as "line"
    wanted: names of the columns that are read
    """
    answers = {row.get("answer") for row in rows if isinstance(row.get("answer"), str | None)}
    if "answer" not in wanted and answers - {"accept", None} and answers <= {*ANSWERS, None}:
        odd = [i for i, row in enumerate(rows) if row.get("answer") in ("reject", "ignore")]
        raise command.UserError(
            f"{path} {unit} {numbers[odd[0]]} has {rows[odd[0]]['answer']!r} under 'answer', as {len(odd):,} of "
            f"{len(rows):,} rows: Prodigy's mark for what not to learn; keep the rows with 'accept' alone"
        )
    if isinstance(rows[0].get("annotations"), list) and isinstance(rows[0].get("data"), dict):
        raise command.UserError(f"{path} is Label Studio's JSON with all its annotations; export it as JSON-MIN or CSV")
