"""Strategies that damage bytes: as a broken copy, a wrong tool or an editor does."""

import json

from hypothesis import strategies as st

ODD = (
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\n", b"\r\n", b"\n\n", b'"', b"'", b"\\", b"{", b"}", b"[",
    b"]", b"<",
    b">", b"&", b"&amp;", b"\t", b";", b",", b" ", b"\xc2\xa0", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"\x1f\x8b",
    b"PK\x03\x04", b"%PDF-",
    b"null", b"NaN", b"-1", b"1e999", b"true", b"</doc>", b"<page>", b"\xf0\x9f\x99\x82", b"\\ud83d", b"x" * 3000,
)  # fmt: skip


@st.composite
def edits(draw, contents):
    """Draws one of `contents`, bytes, with up to three edits: cut, changed, inserted, removed or doubled bytes."""
    raw = bytearray(draw(contents))
    for _ in range(draw(st.sampled_from((0, 1, 1, 2, 3)))):
        place = draw(st.integers(0, len(raw)))
        end = min(len(raw), place + draw(st.integers(0, 40)))
        match draw(st.sampled_from(("cut", "change", "remove", "double", "odd", "odd", "odd"))):
            case "cut":
                del raw[place:]
            case "change" if place < len(raw):
                raw[place] = draw(st.integers(0, 255))
            case "remove":
                del raw[place:end]
            case "double":
                raw[place:place] = raw[place:end]
            case "odd":
                raw[place:place] = draw(st.sampled_from(ODD))
    return bytes(raw)


VALUES = st.sampled_from(
    ("null", "true", "0", "-1", "1099511627776", "1.5", "NaN", "Infinity", '""', '"x"', "[]", "[1]", "{}", '{"a": 1}')
)


@st.composite
def json_edits(draw, contents):
    """Draws JSON, one of `contents` in bytes, in which up to two values are replaced or removed."""
    content = json.loads(draw(contents))
    for _ in range(draw(st.integers(0, 2))):
        places = list(_places(content))
        if not places:
            break
        parent, key = draw(st.sampled_from(places))
        if draw(st.integers(0, 3)):
            parent[key] = json.loads(draw(VALUES))
        else:
            del parent[key]
    return json.dumps(content).encode()


def _places(content):
    """Yields (list or dictionary, key) of each value inside a JSON value."""
    for key in list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield content, key
        yield from _places(content[key])
