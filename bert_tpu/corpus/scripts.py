"""Names the script of a line of text, which decides how its sentences are split."""

import collections
import functools
import re
from typing import NamedTuple


class Script(NamedTuple):
    """A script other than Latin: its characters, and ISO 639 codes of languages that use it, the commonest first."""

    name: str
    characters: str  # ranges of a regular expression
    languages: tuple[str, ...]


# Blocks of https://www.unicode.org/Public/UNIDATA/Blocks.txt
SCRIPTS = (
    Script("Japanese", "\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f", ("ja",)),
    Script("Chinese", "\u3007\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd",
           ("zh", "yue", "wuu", "gan", "lzh", "ja")),
    Script("Korean", "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3", ("ko",)),
    Script("Cyrillic", "\u0400-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f",
           ("ru", "uk", "bg", "sr", "mk", "be", "kk", "ky", "mn", "tg", "tt", "ba", "cv", "ce", "os", "uz", "az")),
    Script("Arabic", "\u0600-\u06ff\u0750-\u077f\u0870-\u08ff\ufb50-\ufdff\ufe70-\ufefc",
           ("ar", "fa", "ur", "ps", "ug", "sd", "ckb", "ku", "arz", "azb", "pnb", "ks")),
    Script("Devanagari", "\u0900-\u097f\ua8e0-\ua8ff", ("hi", "mr", "ne", "sa", "mai", "bho", "new", "kok")),
    Script("Greek", "\u0370-\u03ff\u1f00-\u1fff", ("el", "grc")),
    Script("Thai", "\u0e01-\u0e5b", ("th",)),
    Script("Khmer", "\u1780-\u17ff\u19e0-\u19ff", ("km",)),
    Script("Tibetan", "\u0f00-\u0fff", ("bo", "dz")),
    Script("Lao", "\u0e81-\u0eff", ("lo",)),
    Script("Burmese", "\u1000-\u109f\uaa60-\uaa7f", ("my", "shn", "mnw")),
    Script("Hebrew", "\u0591-\u05f4\ufb1d-\ufb4f", ("he", "yi")),
    Script("Armenian", "\u0531-\u058f\ufb13-\ufb17", ("hy", "hyw")),
    Script("Georgian", "\u10a0-\u10ff\u1c90-\u1cbf\u2d00-\u2d2f", ("ka", "xmf")),
    Script("Ethiopic", "\u1200-\u139f\u2d80-\u2ddf\uab01-\uab2f", ("am", "ti")),
    Script("Bengali", "\u0980-\u09ff", ("bn", "as", "bpy")),
    Script("Gurmukhi", "\u0a00-\u0a7f", ("pa",)),
    Script("Gujarati", "\u0a80-\u0aff", ("gu",)),
    Script("Oriya", "\u0b00-\u0b7f", ("or",)),
    Script("Tamil", "\u0b80-\u0bff", ("ta",)),
    Script("Telugu", "\u0c00-\u0c7f", ("te",)),
    Script("Kannada", "\u0c80-\u0cff", ("kn",)),
    Script("Malayalam", "\u0d00-\u0d7f", ("ml",)),
    Script("Sinhala", "\u0d80-\u0dff", ("si",)),
    # All others from Syriac on: sentencex knows the marks of most of them.
    Script("other", "\u0700-\u086f\u13a0-\u177f\u1800-\u1c7f\u1cc0-\u1cff\u2c00-\u2c5f\ua4d0-\ua63f\ua6a0-\ua6ff"
           "\ua800-\ua8df\ua900-\uaa5f\uaa80-\uab00\uab70-\uabff\U00010280-\U0001d0ff", ("",)),
)  # fmt: skip
ALSO_LATIN = {"az", "ku", "sr", "tt", "uz"}  # languages of these that are written in Latin script, too
OTHERS = re.compile(f"[{''.join(script.characters for script in SCRIPTS)}]")
ASCII = bytes(range(128))
LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
LATIN_SHARE = 5  # a line with more Latin letters than this for one of another script is Latin
KANA_SHARE = 20  # Chinese signs for one kana, up to which a line is Japanese
SAMPLE = 128  # characters that decide on a line
JAPANESE, CHINESE, THAI = SCRIPTS[0], SCRIPTS[1], SCRIPTS[7]


def has_others(text: str) -> bool:
    """Returns whether a text has a character of a script other than Latin."""
    if text.isascii():
        return False
    # Searching the text itself takes four times as long.
    beyond = text.encode(errors="surrogatepass").translate(None, ASCII).decode(errors="surrogatepass")
    return bool(OTHERS.search(beyond))


def find(line: str) -> Script | None:
    """Returns the script that most letters of a line have; None for Latin, and for a line without letters.

    Chinese with English names in it is Chinese: another script needs only one letter for LATIN_SHARE Latin ones.
    """
    if not has_others(line):
        return None
    sample = line[:: -(-len(line) // SAMPLE)]
    counts = collections.Counter(map(_of_character, OTHERS.findall(sample)))
    if not counts or counts.total() * LATIN_SHARE < len(LATIN.findall(sample)):
        return None
    script = max(counts, key=lambda script: counts[script])
    return JAPANESE if script == CHINESE and counts[JAPANESE] * KANA_SHARE >= counts[CHINESE] else script


@functools.cache
def _of_character(character: str) -> Script:
    return next(script for script in SCRIPTS if re.match(f"[{script.characters}]", character))
