"""Very long words, as of base64, DNA and minified code: WordPiece makes them [UNK], so no time is spent on them."""

from collections.abc import Iterator
import functools
import re
import string

from tokenizers import normalizers, pre_tokenizers

SEGMENT = 1 << 16  # characters that are normalized at once: the library takes 100 to 400 bytes a character
# A letter is at most three characters once it is decomposed (Korean), and lower-casing only adds accents.
LONGEST_LETTER = 3
CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
# Words are also split at other punctuation, so what lies between two of these is a word or longer.
SEPARATORS = re.compile(rf"[\s{re.escape(string.punctuation)}{CJK}]+")
# A word may end after each of these: neither letters nor parts of words such as the apostrophe of "don't".
ENDS = ";,(){}=+/<>&|#%$@~*。、"
SEGMENTS = re.compile(rf"[\s\S]{{1,{SEGMENT - 1}}}[{ENDS}]|[\s\S]+?(?:[{ENDS}]|\Z)")
LINES = re.compile(rf"[\s\S]{{1,{SEGMENT}}}(?:\s|\Z)|\S+")


@functools.cache
def _runs(max_chars: int) -> re.Pattern[str]:
    return re.compile(rf"([^\W_{CJK}]{{{max_chars + 1}}})[^\W_{CJK}]+")


def segments(text: str, max_chars: int) -> Iterator[str]:
    """Parts of `text` whose pieces, one part after the other, are those of `text`. Words above max_chars are shortened.

    Letters and digits never vanish, so more than max_chars in a row are a word that is [UNK], and so is what is left.
    """
    for part in SEGMENTS.finditer(_runs(max_chars).sub(r"\1", text)):
        yield part[0]


def lines_without(line: str, max_chars: int, normalizer: normalizers.Normalizer) -> Iterator[str]:
    """The words of a line that have at most max_chars characters, as lines of at most SEGMENT characters."""
    longest = max_chars // LONGEST_LETTER
    for part in LINES.findall(line) if len(line) > SEGMENT else [line]:
        if _is_run(part, longest) and max(map(len, SEPARATORS.split(part))) > longest:
            words = part.split(" ")
            yield " ".join(word if len(word) <= longest else _kept(word, max_chars, normalizer) for word in words)
        else:
            yield part


def _is_run(text: str, longest: int) -> bool:
    """Whether `text` has more than `longest` characters without a space. It looks at few of them."""
    start = 0
    while start + longest < len(text):
        space = text.rfind(" ", start, start + longest + 1)
        if space < 0:
            return True
        start = space + 1
    return False


def _kept(text: str, max_chars: int, normalizer: normalizers.Normalizer) -> str:
    """The normalized words of `text` that are not too long."""
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    words = (word for part in segments(text, max_chars) for word, _ in split(normalizer.normalize_str(part)))
    return " ".join(word for word in words if len(word) <= max_chars)
