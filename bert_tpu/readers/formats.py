"""Readers of text in several formats: from an open file to its paragraphs, with None after each document."""

from collections.abc import Callable, Iterable, Iterator
import io
import itertools
import json
import re
from typing import Any

from bert_tpu.core import command
from bert_tpu.readers import decoding, end_marks, mediawiki, web_archive, wikiextractor, wikitext
from bert_tpu.readers.decoding import Counts

NAMED = 8  # keys in an error
PROSE = 20  # characters of a string in a list, on average, above which the strings are no tags
LIKELY = ("text", "content", "value")  # keys of the texts of messages, sentences and the like
RECORD_BYTES = 64 << 20  # of a JSON line at most: it must be parsed whole


def _text(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[str | None]:
    for _, line in decoding.lines(file, path, counts):
        yield line if line.strip() else None
    yield None


def _one(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[str | None]:
    for _, line in decoding.lines(file, path, counts):
        yield line
    yield None


def _end_of_text(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[str | None]:
    """A document ends at each mark, and at no blank line. A mark of its beginning is left out."""
    begins = True
    for _, line in decoding.lines(file, path, counts):
        for i, part in enumerate(end_marks.split(line)):
            if i:
                begins = True
                yield None
            text = end_marks.OPENING.sub("", part, count=1) if begins and "<" in part else part
            if text.strip():
                begins = False
                yield text
    yield None


def records(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file, one a line, with the numbers of the lines. Raises UserError for anything else."""
    for number, line in decoding.lines(file, path, counts, RECORD_BYTES, keeps_returns=True):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            size = f"it is cut at {RECORD_BYTES >> 20} MiB: " if len(line) > RECORD_BYTES >> 2 else ""
            fault = f"is not JSON ({size}{error})"
            if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data" and line[error.pos] == "{":
                raise command.UserError(
                    f"{path} line {number} has several JSON objects: write one a line by jq -c . OLD > NEW"
                ) from None
        else:
            if isinstance(record, dict):
                yield number, record
                continue
            fault = f"is {_kind(record)}, not a JSON object"
        raise command.UserError(
            f"{path} line {number} {fault}; correct the line, or set --format text if these are not JSON lines"
        )


def string(record: dict[str, Any], column: str, path: str, number: int) -> str:
    """The string in a JSON object under the key `column`, or under the key in an object `a` if `column` is a.key.

    It is "" for null. Raises UserError, with path and line, if there is no such key or no string.
    """
    value: Any = record
    keys = [column] if column in record else column.split(".")
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise command.UserError(f"{path} line {number} has no {column!r}{_advice(record)}")
        value = value[key]
    if isinstance(value, list) and value and (joined := _joined(value)):
        raise command.UserError(
            f"{path} line {number} has a list under {column!r}, not a string; join it by jq -c "
            f"'{_in_jq(*keys)} |= ({joined})' OLD > NEW, or name another key by --column"
        )
    if value is not None and not isinstance(value, str):
        raise command.UserError(
            f"{path} line {number} has {_kind(value)} under {column!r}, not a string; correct it, or name the text's "
            "key by --column"
        )
    return value or ""


def _joined(values: list[Any]) -> str:
    """The filter of jq that joins a list of strings, or of objects with a string; "" for other lists."""
    if all(isinstance(value, str) for value in values):
        return r'join("\n")'
    parts = [value for value in values if not isinstance(value, str)]
    if not all(isinstance(value, dict) for value in parts):
        return ""
    if len(parts) < len(values):  # the words and links of a message of Telegram
        is_text = all(isinstance(part.get("text"), str) for part in parts)
        return 'map(if type == "object" then .text else . end) | join("")' if is_text else ""
    keys = [key for key, value in values[0].items() if isinstance(value, str)]
    longest = max(keys, key=lambda key: len(values[0][key]), default="")
    key = next((key for key in LIKELY if key in keys), longest)
    return rf'map({_in_jq(key)}) | join("\n")' if key else ""


def _in_jq(*keys: str) -> str:
    """A value's place in an object, as jq spells it."""
    return "".join(
        f".{key}" if re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII) else f".[{json.dumps(key)}]" for key in keys
    )


def _advice(record: dict[str, Any]) -> str:
    """The end of an error about an object without the wanted string: the strings and the objects that it has."""
    known = list(itertools.islice(_strings(record, ""), NAMED))
    lists = [(key, value) for key, value in record.items() if isinstance(value, list) and value]
    objects = [(key, _joined(value)) for key, value in lists if isinstance(value[0], dict)]
    advice = [f"name the text's key by --column ({', '.join(known)})"] if known else []
    for key, joined in objects[:1]:
        if joined:
            advice.append(
                f"join the objects in {key!r} to a text by jq -c '{{text: {_in_jq(key)} | {joined}}}' OLD > NEW"
            )
        advice.append(f"write the objects in {key!r} as lines by jq -c '{_in_jq(key)}[]' OLD > NEW")
    for key, value in [(key, value) for key, value in lists if _is_prose(value)][:1]:
        advice.append(f"join the strings in {key!r} by jq -c '{{text: {_in_jq(key)} | {_joined(value)}}}' OLD > NEW")
    return f"{'' if known else ' and no other string'}; {', or '.join([*advice, 'correct the line'])}"


def _is_prose(values: list[Any]) -> bool:
    """Whether the strings of a list are rather texts than tags."""
    return all(isinstance(value, str) for value in values) and sum(map(len, values)) > PROSE * len(values)


def _strings(record: dict[str, Any], above: str) -> Iterator[str]:
    """The keys of the strings in an object, also of those in objects inside it, as --column takes them."""
    for key, value in record.items():
        if isinstance(value, str):
            yield f"{above}{key}"
        elif isinstance(value, dict):
            yield from _strings(value, f"{above}{key}.")


def _kind(value: object) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null")


def jsonl(
    file: io.BufferedReader, path: str, counts: Counts, head: bytes = b"", column: str = "text"
) -> Iterator[str | None]:
    """The paragraphs of each JSON object's string under the key `column`. A null is an empty document.

    In a dump of CirrusSearch, or another of Elasticsearch, a line before each document says its number; it is left out.

    head: the beginning of the file.
    """
    decoder, unescape = decoding.Decoder(path, counts), wikiextractor.Unescape(head)

    def strings() -> Iterator[str]:
        for number, record in records(file, path, counts):
            if not _is_action(record):
                text = decoder.clean(string(record, column, path, number))
                yield wikiextractor.body(record, text, unescape) if wikiextractor.wrote(record) else text

    if wikitext.IN_JSON.search(head):
        yield from wikitext.lines(text.rstrip("\r\n") for text in strings())
        return
    for text in strings():
        yield from paragraphs(text)


def _is_action(record: dict[str, Any]) -> bool:
    """Whether an object is an action of Elasticsearch's bulk format, and not a document."""
    values = [record[key] for key in ("index", "create") if key in record]
    return len(record) == len(values) == 1 and isinstance(values[0], dict) and "_id" in values[0]


Reader = Callable[..., Iterator[str | None]]  # called with (file, path, counts), and with what the format needs
READERS: dict[str, Reader] = {
    "text": _text,
    "file": _one,
    "endoftext": _end_of_text,
    "jsonl": jsonl,
    "wiki": wikiextractor.texts,
    "mediawiki": mediawiki.texts,
    "wikitext": wikitext.texts,
    "wet": web_archive.texts,
}


def texts(raws: Iterable[bytes | str], path: str, counts: Counts) -> Iterator[str | None]:
    """The paragraphs of documents, each in memory as a whole. path: names their source in errors."""
    decoder = decoding.Decoder(path, counts, "document")
    for number, document in enumerate(raws, start=1):
        raw = document.encode(errors="surrogatepass") if isinstance(document, str) else document
        counts.read_bytes += len(raw)
        yield from paragraphs(decoder.decode(raw, number))


def paragraphs(text: str) -> Iterator[str | None]:
    """The paragraphs of one document in memory, then None."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    for line in text.split("\n"):
        yield from pieces(line, decoding.LINE_BYTES)
    yield None


def pieces(line: str, limit: int) -> list[str]:
    """Cuts `line` into pieces of at most `limit` characters, after a space where possible."""
    cut: list[str] = []
    start = 0
    while len(line) - start > limit:
        stop = line.rfind(" ", start, start + limit) + 1 or start + limit
        cut.append(line[start:stop])
        start = stop
    return [*cut, line[start:]]
