"""Columns of text in Arrow's types, whichever file they come from.

A column inside a struct has a name with dots, answer.text. Strings and bytes are text, plain or dictionary-encoded. Any
other type is refused by name: a list may hold words, sentences or whole documents, which only its owner knows.
"""

from collections.abc import Iterator
import contextlib
import shlex
from typing import TYPE_CHECKING, NamedTuple

from bert_tpu.core import command

if TYPE_CHECKING:
    import pyarrow

NAMED_COLUMNS = 8  # listed in an error
TYPE_CHARS = 60  # of a type's name
ERROR_CHARS = 200  # of pyarrow's messages


class Leaf(NamedTuple):
    """A column that is not a struct; it may be inside structs."""

    path: tuple[str, ...]
    type: "pyarrow.DataType"

    @property
    def name(self) -> str:
        """The name as a user writes it."""
        return ".".join(self.path)


def values(batch: "pyarrow.RecordBatch", leaf: Leaf) -> list[bytes | None]:
    """The values of a column as bytes, since pyarrow does not check that strings are UTF-8; None for a missing one.

    batch: with this column alone, or the struct around it.
    """
    from pyarrow import compute

    column = batch.column(0)
    for name in leaf.path[1:]:
        column = compute.struct_field(column, name)
    return _plain(column)


def _plain(column: "pyarrow.Array") -> list[bytes | None]:
    from pyarrow import types

    if types.is_dictionary(column.type):
        # Not dictionary_decode(), which would repeat long texts in memory.
        meanings = _plain(column.dictionary)
        return [None if i is None else meanings[i] for i in column.indices.to_pylist()]
    if types.is_null(column.type):
        return [None] * len(column)
    if kind := _BINARY.get(str(column.type)):
        column = column.cast(kind)
    column.validate(full=True)  # else damaged offsets could end this process
    return column.to_pylist()


_BINARY = {"string": "binary", "large_string": "large_binary", "string_view": "binary_view"}


def leaf(schema: "pyarrow.Schema", column: str, path: str) -> Leaf:
    """The column of this name. Raises UserError if there is none, if there are two, or if it has no text."""
    leaves = list(_leaves(schema, ()))
    matching = [member for member in leaves if member.name == column]
    strings = [member.name for member in leaves if _is_string(member.type)]
    known = strings or [member.name for member in leaves if _is_text(member.type)]
    if known:
        advice = f"set --column to {'one of ' if known[1:] else ''}{_listed([shlex.quote(name) for name in known])}"
    else:
        columns = _listed([f"{field.name}: {_short(field.type)}" for field in schema]) or "none"
        advice = f"no column has text ({columns}): write one as strings"
    if len(matching) > 1:
        raise command.UserError(f"{path} has {len(matching)} columns {column!r}; rename all but one")
    if matching and not _is_text(matching[0].type):
        raise command.UserError(f"{path}: column {column} is {_short(matching[0].type)}, not text; {advice}")
    if column in schema.names and not matching:
        raise command.UserError(f"{path}: column {column} is {_short(schema.field(column).type)}, not text; {advice}")
    if not matching:
        raise command.UserError(f"{path} has no column {column!r}; {advice}")
    return matching[0]


def _leaves(fields: "pyarrow.Schema | pyarrow.StructType", above: tuple[str, ...]) -> Iterator[Leaf]:
    from pyarrow import types

    for field in fields:
        if types.is_struct(field.type):
            yield from _leaves(field.type, (*above, field.name))
        else:
            yield Leaf((*above, field.name), field.type)


def _is_string(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return str(kind) in _BINARY


def _is_text(kind: "pyarrow.DataType") -> bool:
    """True for strings, for bytes of any length, and for a column with nothing but missing values."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return _is_string(kind) or str(kind) in _BINARY.values() or types.is_null(kind)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED_COLUMNS]) + (", ..." if len(names) > NAMED_COLUMNS else "")


def _short(kind: "pyarrow.DataType") -> str:
    text = str(kind)
    return text if len(text) < TYPE_CHARS else f"{text[:TYPE_CHARS]}..."


@contextlib.contextmanager
def naming(path: str, kind: str) -> Iterator[None]:
    """Turns pyarrow's errors into a UserError that names `path`. kind: of the file, such as Parquet."""
    from pyarrow import lib

    try:
        yield
    except (lib.ArrowException, EOFError, OSError, ValueError) as error:
        if getattr(error, "errno", None) is not None:  # an error of the system, not of the file
            raise
        reason = " ".join(str(error).split())[:ERROR_CHARS]
        if "crypt" in reason:
            raise command.UserError(f"{path} is encrypted ({reason}); write it again without encryption") from None
        if isinstance(error, NotImplementedError):
            raise command.UserError(
                f"pyarrow cannot read {path} ({reason}); write it again, compressed by zstd"
            ) from None
        raise command.UserError(f"{path} is damaged or not {kind} ({reason}); fetch or make it again") from None
