"""Marks at the end of a document in plain text, as GPT, BART and others have them: <|endoftext|>, </s>, <eos>."""

import re

WORDS = ("<|end", "</s>", "<eos>", "<EOS>")  # one of them is in each mark; they are found much faster
GPT, BART = r"<\|end_?of_?text\|>", r"(?:</s>|<eos>|<EOS>)"
ANY = re.compile(f"{GPT}|{BART}")
# Where a mark ends a document: at the end of a line, or between a sentence and the next one. In prose about such marks
# it has spaces, quotes or brackets around it: "the mark <|endoftext|> is ...".
STOPS = ".!?\u3002\uff01\uff1f\u2026\u0964\u061f"
SENTENCE = rf"(?:(?<=[{STOPS}])|(?<=[{STOPS}][\"”\u2019»)]))"
EDGE, BETWEEN = r"{0}\s*$", rf"{SENTENCE}{{0}}(?=[^\s\"'`)\]])|{SENTENCE}\s{{0}}\s(?=[^\sa-z])"
OPENING = re.compile(r"\s*(?:<s>(?!.*</s>)|<bos>|<BOS>|<\|(?:start|begin)_?of_?text\|>)\s*")


def _ends(mark: str) -> str:
    return "|".join((EDGE.format(mark), BETWEEN.format(mark), rf"(?<=[\w.,:;!?]){mark}(?=\w)"))


END_BART = re.compile(_ends(BART))
END_GPT = re.compile(f"^{GPT}|{_ends(GPT)}")
CLEAR = re.compile(rf"(?:^\s*|{SENTENCE}\s*){BART}")
STRUCK = re.compile(r"\s*(?!<s>|</s>)\S(?:(?!</s>).)*<s>")  # before words of HTML that are struck out


def end_documents(text: str) -> bool:
    """Whether marks in the beginning of a file end documents. One </s> behind no sentence may be prose about it."""
    if not any(word in text for word in WORDS):
        return False
    lines = [line for line in text.split("\n") if any(word in line for word in WORDS)]
    ends = [line for line in lines if _bart_ends(line)]
    return len(ends) > 1 or any(map(CLEAR.search, ends)) or any(map(END_GPT.search, lines))


def _bart_ends(line: str) -> bool:
    return bool(END_BART.search(line)) and not STRUCK.match(line)


def split(line: str) -> list[str]:
    """The parts of a line, between which documents end: at each <|endoftext|>, and where </s> or <eos> ends one."""
    if not any(word in line for word in WORDS):
        return [line]
    parts = re.split(GPT, line)
    return [piece for part in parts for piece in (END_BART.split(part) if _bart_ends(part) else [part])]
