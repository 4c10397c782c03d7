"""Reads rows whose values have types: JSON lines, arrays of JSON objects, Parquet. Spells the values as text."""

from collections.abc import Iterable, Iterator, Mapping
import json
import math
from pathlib import Path
import re
from typing import Any, NamedTuple

from etils import epath

from bert_tpu.core import command

JSON = (".jsonl", ".json")
PARQUET = ".parquet"
MAGIC = b"PAR1"  # first bytes of a Parquet file
SPACE = re.compile(r"\s*")
KINDS: dict[type, str] = {str: "text", bool: "a truth value", int: "a number", float: "a number"}

NOT_ROWS = (
    "is one JSON object, not rows; write an array of objects, or one object a line as pandas' "
    "to_json(orient='records', lines=True) does"
)


class Table(NamedTuple):
    """Rows as read. A key that a row lacks is a column with null in that row."""

    rows: list[dict[str, Any]]
    numbers: list[int]  # of each row: its line, or its place from 1
    unit: str  # what `numbers` count: "line" or "row"
    keys: dict[str, None]  # of all rows, in order


class Spelled(NamedTuple):
    """Columns as text."""

    values: dict[str, list[str]]  # column -> rows
    kinds: dict[str, dict[str, int]]  # column -> kind -> number of the first row with it


class _DoubledKeyError(ValueError):
    pass


def json_rows(path: str, content: str) -> Table:
    """The rows of JSON lines, or of an array of objects. Raises UserError for anything else."""
    is_array = content.lstrip()[:1] == "["
    numbered = list(_array(path, content) if is_array else _lines(path, content))
    if len(numbered) == 1 and all(isinstance(value, dict | list) for value in numbered[0][1].values()):
        raise command.UserError(f"{path} {NOT_ROWS}")
    keys = dict.fromkeys(key for _, row in numbered for key in row)
    return Table([row for _, row in numbered], [number for number, _ in numbered], "row" if is_array else "line", keys)


def _array(path: str, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        rows = _parse(content)
    except _DoubledKeyError as error:
        raise command.UserError(f"{path} has an object with two keys {error.args[0]!r}; rename one") from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise command.UserError(
                f"{path} line 1 is not a JSON object; write one object a line, or an array of objects"
            ) from None
        raise command.UserError(
            f"{path} line {error.lineno} is not JSON ({error.msg}); correct it, or fetch or make the file again"
        ) from None
    except (ValueError, RecursionError):
        raise command.UserError(f"{path} is not an array of JSON objects; make it again") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise command.UserError(f"{path} row {number} is not a JSON object; correct it")
        yield number, row


def _lines(path: str, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    is_first = True
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        row, reason = None, ""
        try:
            row = _parse(line)
        except _DoubledKeyError as error:
            raise command.UserError(f"{path} line {number} has two keys {error.args[0]!r}; rename one") from None
        except json.JSONDecodeError as error:
            reason = f" ({error.msg})"
        except (ValueError, RecursionError):
            pass
        if not isinstance(row, dict):
            if is_first and (objects := _stream(content)):
                yield from objects
                return
            if _is_object(content):
                raise command.UserError(f"{path} {NOT_ROWS}")
            raise command.UserError(
                f"{path} line {number} is not a JSON object{reason}; write one object a line, or an array of objects"
            )
        yield number, row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DoubledKeyError(next(name for name in names if names.count(name) > 1))
    return row


# One decoder for all lines: json.loads would make one for each.
_parse = json.JSONDecoder(object_pairs_hook=_unique).decode


def _stream(content: str) -> list[tuple[int, dict[str, Any]]]:
    """Returns the objects of a file in which each goes over several lines, as jq prints them; [] if it is another."""
    decoder, line, end, objects = json.JSONDecoder(object_pairs_hook=_unique), 1, 0, []
    while (start := SPACE.match(content, end).end()) < len(content):  # type: ignore[union-attr]  # it matches anything
        line += content.count("\n", end, start)
        try:
            row, end = decoder.raw_decode(content, start)
        except (ValueError, RecursionError):
            return []
        if not isinstance(row, dict):
            return []
        objects.append((line, row))
        line += content.count("\n", start, end)
    return objects if len(objects) > 1 else []


def _is_object(content: str) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def is_parquet(path: str | Path) -> bool:
    """Whether a file begins as a Parquet file."""
    with epath.Path(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def schema(path: str) -> Any:
    """The pyarrow schema of a Parquet file. Raises UserError that names the file."""
    command.require(path, "pyarrow", extra="corpus")
    from pyarrow import lib, parquet

    try:
        with epath.Path(path).open("rb") as raw:
            return parquet.read_schema(raw)
    except (lib.ArrowException, OSError) as error:
        raise command.UserError(f"{path} is damaged or not a Parquet file ({error}); fetch or make it again") from None


def parquet(path: str, wanted: Iterable[str]) -> Table:
    """The rows of a Parquet file, with the values of the columns `wanted`. Raises UserError that names the file."""
    command.require(path, "pyarrow", extra="corpus")
    from pyarrow import lib, parquet

    try:
        with epath.Path(path).open("rb") as raw, parquet.ParquetFile(raw) as file:
            schema = file.schema_arrow
            if doubled := [name for name in wanted if schema.names.count(name) > 1]:
                raise command.UserError(f"{path} has two columns {doubled[0]!r}; rename one")
            names = [name for name in wanted if name in schema.names]
            columns = {name: column.to_pylist() for name, column in _columns(file, names)}
            number = file.metadata.num_rows
    except (lib.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise command.UserError(f"{path} is damaged or not a Parquet file ({error}); fetch or make it again") from None
    for name, classes in _class_names(schema.metadata or {}).items():
        if name in columns:
            columns[name] = [_class(path, i, value, classes) for i, value in enumerate(columns[name], 1)]
    rows = [{name: values[i] for name, values in columns.items()} for i in range(number)]
    return Table(rows, list(range(1, number + 1)), "row", dict.fromkeys(schema.names))


def _columns(file: Any, names: list[str]) -> Iterator[tuple[str, Any]]:
    table = file.read(columns=names)
    return ((name, table.column(name)) for name in names)


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Returns column -> names of the classes 0, 1, ..., from what Hugging Face's datasets write into a schema."""
    return {name: feature["names"] for name, feature in _features(metadata).items() if _is_class(feature)}


def list_class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The same as column -> names of classes, for columns whose values are lists of classes.

    metadata: of a Parquet file's schema
    """
    items = {name: _item(feature) for name, feature in _features(metadata).items()}
    return {name: item["names"] for name, item in items.items() if _is_class(item)}


def _item(feature: Any) -> Any:
    """The feature of a list's items; older releases of datasets write a list of it."""
    if isinstance(feature, list):
        return feature[0] if feature else None
    return feature.get("feature") if isinstance(feature, dict) else None


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _is_class(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)


def _class(path: str, row: int, value: Any, classes: list[str]) -> str | None:
    if value is None or value == -1:  # no label, as in test splits
        return None
    if not isinstance(value, int) or not 0 <= value < len(classes):
        raise command.UserError(f"{path} row {row} has the class {value!r} of {len(classes)}; fetch or make it again")
    return classes[value]


def spell(path: str, table: Table, wanted: Iterable[str], nullable: Iterable[str]) -> Spelled:
    """Returns the columns `wanted` as far as a row has them, as text. Null and NaN are "" in the columns `nullable`.

    Raises UserError for a value that is neither text nor a number, and for null elsewhere.
    """
    values: dict[str, list[str]] = {}
    kinds: dict[str, dict[str, int]] = {}
    for key in (key for key in wanted if key in table.keys):
        values[key], kinds[key] = [], {}
        for row, number in zip(table.rows, table.numbers, strict=True):
            value = row.get(key)
            if value is None or value != value:  # NaN
                if key not in nullable:
                    raise command.UserError(
                        f"{path} {table.unit} {number} has no text under {key!r}; correct it or take it out"
                    )
                values[key].append("")
            elif type(value) is str and value.isascii():
                values[key].append(value)
                kinds[key].setdefault("text", number)
            else:
                values[key].append(_plain(f"{path} {table.unit} {number}", key, value))
                kinds[key].setdefault(KINDS[type(value)], number)
    return Spelled(values, kinds)


def _plain(place: str, key: str, value: object) -> str:
    if isinstance(value, str):
        # JSON can spell half a surrogate pair, which no tokenizer accepts.
        return value.encode(errors="surrogatepass").decode(errors="replace")
    if isinstance(value, int | float) and not (isinstance(value, float) and math.isinf(value)):
        return json.dumps(value)
    form = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__
    remedy = "write one text or number" if isinstance(value, list | dict) else "correct it"
    raise command.UserError(f"{place} has neither text nor a number under {key!r} but {form}; {remedy}")
