"""The likely encoding of text that is not UTF-8, and the command that converts it."""

# Names of Python and of iconv. Others of Western and Central Europe look like CP1252 to charset_normalizer, or it
# names them where CP1252 is right.
NAMES = {
    "cp1252": "CP1252", "cp1251": "CP1251", "koi8_r": "KOI8-R", "cp866": "CP866", "iso8859_5": "ISO-8859-5",
    "gb18030": "GB18030", "big5": "BIG5", "cp932": "CP932", "euc_jp": "EUC-JP", "cp949": "CP949", "cp1253": "CP1253",
    "cp1255": "CP1255", "cp1256": "CP1256", "tis_620": "TIS-620",
}  # fmt: skip
EXAMPLE_CHARS = 40  # of the text that shows whether the guess is right


def advice(sample: bytes, unit: str) -> str:
    """Returns how to convert text that is not UTF-8: the end of an error message.

    sample: lines, or values of a column, that are not UTF-8.
    unit: line or document; only a file of lines can be converted as a whole.
    """
    import charset_normalizer  # here, because most runs do not need it

    best = charset_normalizer.from_bytes(sample, cp_isolation=list(NAMES)).best()
    command = "convert it by iconv -f {} -t UTF-8 OLD > NEW" if unit == "line" else "write the texts decoded by {}"
    if best is None or best.encoding not in NAMES:
        return f"find out its encoding, such as CP1250, and {command.format('CP1250')}"
    name = NAMES[best.encoding]
    text = str(best)
    first = next(i for i, character in enumerate(text) if not character.isascii())
    example = " ".join(text[max(first - EXAMPLE_CHARS // 2, 0) :][:EXAMPLE_CHARS].split())
    return f"as {name} it reads {example!r}: if that is right, {command.format(name)}"
