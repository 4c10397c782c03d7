"""The kind of a file from its first bytes: how it is packed, and in which format its text is."""

import codecs
import csv
import io
import json
import os
import re

from bert_tpu.core import command
from bert_tpu.readers import beginnings, end_marks, web_archive, wikitext
from bert_tpu.readers.beginnings import TEXT

HEAD_BYTES = 1 << 16  # of a file, and of its unpacked content, that decide
PACKINGS = (
    (rb"\x1f\x8b\x08", "gzip"),
    (rb"\xfd7zXZ\0|\x5d\0\0.{2}(\xff{8}|.{5}\0{3})", "xz"),  # the second is its older form, .lzma
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", "bzip2"),
    (rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", "zstd"),
    (rb"PAR1([\0-\x1f]|$)", "parquet"),  # not a text with this word
    (rb"ARROW1\0\0|\xff{4}..[\0-\x0f]\0", "arrow"),  # a file, or a stream that begins with the length of its schema
)
ANY_PACKING = re.compile(b"|".join(b"(?:%b)" % magic for magic, _ in PACKINGS), re.DOTALL)
SUFFIXES = re.compile(r"(\.(gz|xz|lzma|bz2|zst|zstd))+$")  # of packed files
JSON_LINES = re.compile(r"\.(json|jsonl|ndjson|ldjson|jl)(\.\d+)?$")
TABLE = re.compile(r"\.(csv|tsv|tab|psv)$")

STRING = r'"(?:[^"\\]|\\.)*"'
CELL_TYPE = re.compile(r'"cell_type"\s*:\s*"(?:markdown|code|raw)"')  # of a notebook of Jupyter
NOTEBOOK = (
    """jq -c '{text: [.cells[] | select(.cell_type == "markdown").source | strings, add?] | join("\\n")}' OLD > NEW"""
)
JSON_STRING = re.compile(rf"\s*{STRING}\s*")
OBJECT = re.compile(rf"\{{\s*({STRING}\s*:|\}})")
ARRAY = re.compile(rf"\[\s*(\{{\s*({STRING}\s*:|\}})|{STRING}\s*(,\s*[\"\[{{\d]|\]\s*$))")
PYTHON_LIST = re.compile(r"""\['(?:[^'\\\n]|\\.)*(?:'(?:, ['"]|\]\s*\Z)|\Z)""")  # its first text may be cut
PYTHON_DICT = re.compile(r"\{\s*'[^'\n]*'\s*:")
# What may stand before the root of an XML file: white space, a declaration, comments and a document type.
PROLOG = re.compile(r"(\s+|<\?xml.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(\[.*?\])?\s*>)*", re.DOTALL | re.IGNORECASE)
ROOT = re.compile(r"<([A-Za-z][\w:.-]*)(?=[\s/>])")
HTML = ("html", "head", "body")
ONE_LINE_DOC = re.compile(r"<doc\b[^<>\n]*>[^\n]*\S[^\n]*</doc>")
OTHER_DOC = re.compile(r"<doc\b[^<>]*>\s*<(?!/?doc\b|a href)\w")  # WikiExtractor begins an article with its title
CLOSING = re.compile(r"</[A-Za-z][\w:.-]*\s*>")
CHARS_PER_TAG = 1000  # of XML, at most; a text may begin with a tag
ENCODED = (  # in ASCII: some characters in the form, its name, and advice
    (re.compile(r"=[C-F][\dA-F]=[89AB][\dA-F]"), "quoted-printable", "decode it by python -m quopri -d OLD > NEW"),
    (re.compile(r"~\{(?:[!-}][!-~])+~\}"), "HZ", "decode it by Python's codec 'hz'"),
    (re.compile(r"\+[AB][A-Za-z\d+/]{2,60}-"), "UTF-7", "convert it by iconv -f UTF-7 -t UTF-8 OLD > NEW"),
)
BYTES = re.compile(r"""b(["']).*\1\s*""")  # a line
WORDS, WORD_SHARE = 200, 0.98  # lines of one word: a column, not text
ROWS, CELL = 5, re.compile(r"[^\W\d][\w .-]{0,40}")  # rows that make a table, and the form of a column's name


def packing(head: bytes) -> str:
    """How a file is packed: gzip, xz, bzip2, zstd, parquet, arrow, or "" for not at all. head: its first HEAD_BYTES."""
    if not ANY_PACKING.match(head):
        return ""
    return next(kind for magic, kind in PACKINGS if re.match(magic, head, re.DOTALL))


def form(head: bytes, path: str) -> str:
    """The format of text, a key of formats.READERS.

    head: the first HEAD_BYTES of the unpacked file.
    path: its name, which says what was meant where the content does not show it.

    Raises UserError for JSON, XML and tables that are not lines of text.
    """
    text = head.removeprefix(codecs.BOM_UTF8).decode(errors="replace").lstrip()
    name = SUFFIXES.sub("", os.fspath(path))
    if text.startswith("WARC/") and web_archive.FORM.search(text):
        return "wet"
    beginnings.refuse(text, path)
    if name.endswith(".parquet"):
        raise command.UserError(f"{path} is not a Parquet file; fetch or make it again, or correct its name")
    if text.count("\r") > 1 and "\n" not in text:
        raise command.UserError(
            f"{path} ends its lines with CR alone: convert it by tr '\\r' '\\n' < OLD > NEW, or {TEXT}"
        )
    if _is_json_lines(text, path):
        return "jsonl"
    if wiki := _markup(text, path):
        return wiki
    if text and JSON_LINES.search(name):
        return "jsonl"  # whose reader names the line that is not JSON
    _refuse_literals(text, path)
    if end_marks.end_documents(text):
        return "endoftext"
    if wikitext.is_form(head.decode(errors="replace")):
        return "wikitext"
    if (text and TABLE.search(name)) or _is_table(text, len(head) == HEAD_BYTES):
        plain = ", or as plain text (column 2 by cut -f 2 OLD > NEW)" if "\t" in text.partition("\n")[0] else ""
        raise command.UserError(
            f"{path} is a table: write its column of text as JSON lines, an object with a 'text' in each{plain}, "
            f"or {TEXT}"
        )
    return "text"


def _is_json_lines(text: str, path: str) -> bool:
    """True if the text begins with a JSON object. Raises UserError for other JSON and for Python's notation."""
    if PYTHON_DICT.match(text):
        raise command.UserError(f"{path} has Python's notation of dictionaries: write them by json.dumps, or {TEXT}")
    if PYTHON_LIST.match(text):
        raise command.UserError(f"{path} has Python's notation of a list: write each text as a JSON line, or {TEXT}")
    if ARRAY.match(text):
        raise command.UserError(
            f"{path} is a JSON array, not one object a line: convert it by jq -c '.[]' OLD > NEW, or {TEXT}"
        )
    if not OBJECT.match(text):
        return False
    if CELL_TYPE.search(text) and '"cells"' in text:
        raise command.UserError(f"{path} is a notebook: write its Markdown as JSON lines by {NOTEBOOK}, or {TEXT}")
    first, newline, rest = text.partition("\n")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        # An object over several lines: the first has its brace, or its brace and one key.
        if newline and re.match(rf"\s*({STRING}\s*[:,]|[\[\]{{}}],?\s*$)", rest) and not rest.startswith("{"):
            raise command.UserError(
                f"{path} has a JSON object over several lines: convert it to one object a line by jq -c . OLD > NEW, "
                f"or {TEXT}"
            ) from None
    return True


def _refuse_literals(text: str, path: str) -> None:
    """Raises UserError for mail's encoding, and if each line is a string of JSON, or bytes in Python's notation."""
    for characters, kind, advice in ENCODED:
        if len(characters.findall(text)) >= ROWS:
            raise command.UserError(f"{path} is in the encoding {kind}: {advice}, or {TEXT}")
    lines = [line for line in text.split("\n")[:-1] if line.strip()]
    if len(lines) < ROWS:
        return
    words = sum(not re.search(r"\s", line.strip()) for line in lines)
    cased = sum(line.lower() != line.upper() for line in lines)  # of a script that has spaces between words
    if len(lines) >= WORDS and words >= WORD_SHARE * len(lines) and 2 * cased > len(lines):
        raise command.UserError(f"{path} has a word in each line: write a paragraph in a line, or {TEXT}")
    if all(line.startswith("__label__") for line in lines):
        raise command.UserError(
            f"{path} has fastText's labels: take them out by sed -E 's/(__label__[^ ]+ ?)+//' OLD > NEW, or {TEXT}"
        )
    if all(map(BYTES.fullmatch, lines)):
        raise command.UserError(f"{path} has Python's notation of bytes: write the text that they decode to, or {TEXT}")
    if any("\\" in line for line in lines) and all(JSON_STRING.fullmatch(line) for line in lines):
        raise command.UserError(
            f"{path} has a JSON string in each line: convert it by jq -c '{{text: .}}' OLD > NEW, or {TEXT}"
        )


def _markup(text: str, path: str) -> str:
    """The format of a Wikipedia extract or dump; "" for no markup. Raises UserError for other XML and for HTML."""
    if not text.startswith("<"):
        return ""
    prolog = PROLOG.match(text)
    before = prolog[0] if prolog else ""
    root = ROOT.match(text, len(before))
    name = root[1] if root else ""
    if name == "doc" and text.startswith("<doc "):
        _refuse_other_doc(text, path)
        return "wiki"
    if name in ("mediawiki", "page"):
        return "mediawiki"
    is_html = name.lower() in HTML or "<!doctype html" in before.lower()
    is_declared = "<?xml" in before or "<!doctype" in before.lower()  # a comment alone may begin a page of Markdown
    if is_html or is_declared or (name and len(CLOSING.findall(text)) * CHARS_PER_TAG > len(text)):
        if name == "s" and end_marks.ANY.search(text):
            raise command.UserError(
                f"{path} has <s> and </s> around its texts: set --format endoftext if each is a document, or take them "
                f"out by sed -E 's,</?s>,,g' OLD > NEW, or {TEXT}"
            )
        kind = "HTML" if is_html else f"XML or HTML with the element <{name}>" if name else "XML"
        raise command.UserError(f"{path} is {kind}, and not a MediaWiki dump: extract its text, or {TEXT}")
    return ""


def _refuse_other_doc(text: str, path: str) -> None:
    """Raises UserError for a file that begins with <doc> and is not WikiExtractor's."""
    lines = [line for line in text.split("\n") if line and not line.startswith("<")]
    if len(lines) >= ROWS and sum("\t" in line for line in lines) > len(lines) / 2:
        raise command.UserError(f"{path} has a tagged word in each line: write its words as running text, or {TEXT}")
    if ONE_LINE_DOC.match(text):
        raise command.UserError(
            f"{path} has <doc> and its text in one line: divide them by sed -E "
            f"'s,<doc [^>]*>|</doc>,\\n&\\n,g' OLD > NEW, or {TEXT}"
        )
    if OTHER_DOC.match(text):
        raise command.UserError(
            f"{path} is XML with elements inside <doc>: extract its text (trafilatura's option "
            f"--json gives JSON lines), or {TEXT}"
        )


def _is_table(text: str, is_cut: bool) -> bool:
    """True if all lines have the same columns, separated by tabs, or by commas or semicolons below their names."""
    lines = text.split("\n")[: -1 if is_cut else None]
    filled = [line.rstrip("\r") for line in lines if line.strip()]
    if len(filled) < ROWS:
        return False
    rows = [line for line in filled if not line.startswith("#")]  # treebanks have comments
    tabs = {line.strip(" \t").count("\t") for line in rows}
    if len(rows) >= ROWS and len(tabs) == 1 and min(tabs) > 0:
        return True
    for delimiter in ",;":
        names = filled[0].split(delimiter)
        if len(names) > 1 and all(CELL.fullmatch(name.strip('"')) for name in names):
            try:
                cells = [row for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter) if row]
            except csv.Error:
                continue
            whole = cells[:-1] if is_cut else cells
            if len(whole) >= ROWS and {len(row) for row in whole} == {len(names)}:
                return True
    return False
