"""Says where a table's texts are in quotes that a program put around them, and that are read as text."""

from collections.abc import Iterator, Mapping, Sequence

from bert_tpu.core import numerals


def notes(path: str, separator: str, lines: Sequence[int], values: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yields a sentence if the rows have such quotes.

    path: of the file
    separator: a tab or a comma
    lines: number of the line of each row
    values: column -> cells of the rows
    """
    is_odd = _program_quotes if separator == "\t" else _after_space
    rows = sorted({line for column in values.values() for line, odd in zip(lines, is_odd(column), strict=True) if odd})
    if rows:
        what, advice = (
            ("a text in quotes", "which TSV keeps as they are; save the file as CSV if a program quoted it")
            if separator == "\t"
            else ("a space before a quote", "so that the quotes are text; take out the spaces after the commas")
        )
        yield f"{path}: {numerals.count(len(rows), 'row')} with {what} (line {rows[0]:,} first), {advice}"


def _program_quotes(cells: Sequence[str]) -> list[bool]:
    """Returns for each cell of a column whether a program seems to have quoted it.

    Programs double the quotes inside: "say ""hi"" now". Excel quotes each cell with a comma.
    """
    wrapped = [len(cell) > 1 and cell[0] == '"' == cell[-1] for cell in cells]
    with_comma = [is_wrapped for cell, is_wrapped in zip(cells, wrapped, strict=True) if "," in cell]
    is_excel = bool(with_comma) and all(with_comma)
    return [
        is_wrapped
        and '"' not in (inner := cell[1:-1]).replace('""', "")
        and ('""' in inner or (is_excel and "," in inner))
        for cell, is_wrapped in zip(cells, wrapped, strict=True)
    ]


def _after_space(cells: Sequence[str]) -> list[bool]:
    """Returns for each cell of a CSV column whether it is in quotes after a space, where they quote nothing."""
    return [cell[:1] == " " and len(text := cell.strip()) > 1 and text[0] == '"' == text[-1] for cell in cells]
