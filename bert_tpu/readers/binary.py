"""Files that are not text: recognised by their first bytes and refused by name, with the way to the text in them."""

import codecs
import re

from bert_tpu.core import command

# Bytes that a text has only by mistake. Escape is left out: a log with colours has it.
CONTROLS = bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1b"))
STRAY, STRAY_SHARE = 4, 0.01  # controls that may be in the first bytes of a text
ONE_SIDE = 0.95  # of the zero bytes of UTF-16, at least, are the higher halves, or the lower halves
PRINTABLE = 0.95  # of the characters of text, at least

UNPACK = "unpack it and give the files in it"
EXPORT = "write its text as plain text or JSON lines"
PARQUET = "write it as Parquet"
MEDIA = "give files of text"
# (first bytes as a regular expression, name, advice). https://en.wikipedia.org/wiki/List_of_file_signatures
SIGNATURES = (
    (rb"PK(\x03\x04|\x05\x06|\x07\x08)", "a zip archive", UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (rb"Rar!\x1a\x07", "a rar archive", UNPACK),
    (rb"!<arch>\n", "an ar archive", UNPACK),
    (rb"07070[127][0-9A-Fa-f]{20}", "a cpio archive", UNPACK),
    (rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", "compressed by lz4", "unpack it by lz4 -d"),
    (rb"LZIP[\0-\x02]", "compressed by lzip", "unpack it by lzip -d"),
    (rb"\x89LZO\0\r\n", "compressed by lzop", "unpack it by lzop -d"),
    (rb"\x1f[\x9d\xa0]", "compressed by compress", "unpack it by gzip -d"),
    (rb"\xff\x06\0\0sNaPpY", "compressed by snappy", "unpack it"),
    (rb"%PDF-", "a PDF file", "extract its text, for example by pdftotext"),
    (rb"AT&TFORM", "a DjVu file", "extract its text, for example by djvutxt"),
    (rb"ZIM\x04", "a ZIM file of Kiwix", EXPORT),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file", "extract its text, for example by ps2ascii"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document of the old kind (.doc, .xls, .ppt)", EXPORT),
    (rb"FEA1", "a Feather file of the old kind", PARQUET),
    (rb"ORC([\0-\x08]|\n.{0,5}[\0-\x08])", "an ORC file", PARQUET),
    (rb"Obj\x01", "an Avro file", PARQUET),
    (rb"SEQ[\x04-\x06]", "a Hadoop sequence file", PARQUET),
    (rb"SQLite format 3\0", "an SQLite database", EXPORT),
    (rb"\x80[\x02-\x05]", "a pickle of Python", EXPORT),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", EXPORT),
    (rb"\x93NUMPY", "an array of NumPy", EXPORT),
    (rb".{5}\0\0\0\{", "a safetensors file", MEDIA),
    (rb"GGUF[\x01-\x09]\0", "a GGUF model", MEDIA),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*|RIFF.{4}WEBP", "an image", MEDIA),
    (rb"RIFF.{4}(WAVE|AVI )|ID3[\x02-\x04]|OggS\0|fLaC\0|\0.{3}ftyp|\x1aE\xdf\xa3", "sound or video", MEDIA),
    (rb"\x7fELF|MZ.{1,80}\0|\xca\xfe\xba\xbe|[\xce\xcf]\xfa\xed\xfe", "a program", MEDIA),
)
ANY_SIGNATURE = re.compile(b"|".join(b"(?:%b)" % signature for signature, _, _ in SIGNATURES), re.DOTALL)
IN_ZIP = {
    b"application/epub": "an EPUB book", b"word/": "a .docx document", b"xl/": "an .xlsx table",
    b"opendocument": "an OpenDocument file", b".npy": "an .npz file of NumPy", b".pkl": "a file of PyTorch",
}  # fmt: skip
# With a byte order mark: name for iconv. The mark of UTF-32 begins with that of UTF-16.
MARKS = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16",
         codecs.BOM_UTF16_BE: "UTF-16"}  # fmt: skip
ISO_2022 = {b"\x1b$B": "ISO-2022-JP", b"\x1b$@": "ISO-2022-JP", b"\x1b(J": "ISO-2022-JP", b"\x1b$)C": "ISO-2022-KR",
            b"\x1b$)A": "ISO-2022-CN"}  # fmt: skip


def refuse(head: bytes, path: str) -> None:
    """Raises UserError if a file is not text in an encoding that holds ASCII. head: its first bytes, unpacked."""
    if kind := _kind(head):
        name, advice = kind
        raise command.UserError(f"{path} is {name}: {advice}")
    if encoding := _encoding(head):
        raise command.UserError(f"{path} is {encoding}; convert it by iconv -f {encoding} -t UTF-8 OLD > NEW")
    stray = len(head) - len(head.translate(None, CONTROLS))
    if stray > STRAY and stray > STRAY_SHARE * len(head):
        raise command.UserError(
            f"{path} is binary data: of its first {len(head):,} bytes {stray:,} are zero or of other kinds that text "
            f"does not have; {MEDIA}"
        )


def _kind(head: bytes) -> tuple[str, str] | None:
    """(name, advice) of a file with a signature."""
    for signature, name, advice in SIGNATURES if ANY_SIGNATURE.match(head) else ():
        if re.match(signature, head, re.DOTALL):
            if name == "a zip archive":
                name, advice = next(((inner, EXPORT) for mark, inner in IN_ZIP.items() if mark in head), (name, advice))
            return name, advice
    if _is_tar(head):
        return "a tar archive", UNPACK
    return None


def _is_tar(head: bytes) -> bool:
    """True for the header of a tar archive: at 148 it has the sum of its bytes, with spaces in the sum's own place."""
    field = head[148:156].strip(b" \0")
    if len(head) < 512 or not re.fullmatch(rb"[0-7]{1,7}", field):
        return False
    return int(field, 8) == sum(head[:148]) + 8 * ord(" ") + sum(head[156:512])


def _encoding(head: bytes) -> str:
    """The name for iconv of an encoding whose bytes are not ASCII where the text is; "" for none of them."""
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    whole = head[: len(head) // 4 * 4]
    if b"\0" in whole:
        # Each character has four bytes, and no character is above 0x10FFFF.
        for name, high, next_high in (("UTF-32LE", whole[3::4], whole[2::4]), ("UTF-32BE", whole[::4], whole[1::4])):
            if not any(high) and max(next_high) <= 0x10:
                return name
        zeros = whole.count(0)
        if zeros > STRAY_SHARE * len(whole):
            for name, high in (("UTF-16LE", whole[1::2]), ("UTF-16BE", whole[::2])):
                if high.count(0) >= ONE_SIDE * zeros and _is_readable(whole, name):
                    return name
    return next((name for mark, name in ISO_2022.items() if mark in head), "") if b"\x1b" in head else ""


def _is_readable(raw: bytes, encoding: str) -> bool:
    text = raw.decode(encoding, errors="replace")
    readable = sum(character.isprintable() or character.isspace() for character in text)
    return readable - text.count("\ufffd") >= PRINTABLE * len(text)
