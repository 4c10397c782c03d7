"""Words that a wiki shows in one of several variants of its language: -{zh-hans:计算机;zh-hant:電腦}-.

https://www.mediawiki.org/wiki/Writing_systems/Syntax
"""

import re

RULE = re.compile(r"-\{(?!\{)((?:(?!-\{|\}-).){0,4000})\}-", re.DOTALL)
CODE = r"(?:zh|sr|sh|gan|wuu|kk|ku|uz|tg|shi|zgh|iu|ike|crh|tly|ban|mni|en)(?:-[a-z]+)*"
VARIANT = re.compile(rf"\s*(?:[^:]*?=>\s*)?({CODE})\s*:(.*)", re.DOTALL | re.IGNORECASE)
BETWEEN = re.compile(rf";(?=\s*(?:[^:;]*=>\s*)?{CODE}\s*:|\s*$)", re.IGNORECASE)
FLAGS = re.compile(rf"\s*(?:[A-Z+-](?:\s*;\s*[A-Z+-])*|{CODE}(?:\s*;\s*{CODE})*)?\s*")
DEPTH = 10  # of rules within rules
NOT_SHOWN = set("THDN-")  # titles, hidden rules, descriptions, names of variants, removed rules
# Letters of Chinese in both scripts, to see which one a page is written in.
SIMPLIFIED, TRADITIONAL = "这国来时个为们会学发", "這國來時個為們會學發"
CYRILLIC = re.compile("[а-шђјљњћџ]")


def chosen(markup: str) -> str:
    """Returns markup with one variant of each choice: that of the page's script if there is one, or else the first."""
    simplified, traditional = (sum(map(markup.count, letters)) for letters in (SIMPLIFIED, TRADITIONAL))
    chinese = (
        ("zh-hant", "zh-tw", "zh-hk", "zh-mo") if traditional > simplified else ("zh-hans", "zh-cn", "zh-sg", "zh-my")
    )
    serbian = ("sr-ec", "sr-cyrl") if len(CYRILLIC.findall(markup)) * 3 > len(markup) else ("sr-el", "sr-latn")
    wanted = {code: rank for rank, code in enumerate(chinese + serbian)}
    for _ in range(DEPTH):
        if (simpler := RULE.sub(lambda match: _words(match[1], wanted), markup)) == markup:
            break
        markup = simpler
    return markup


def _words(rule: str, wanted: dict[str, int]) -> str:
    """Returns the words that the inside of -{...}- shows. wanted: variant -> rank, the lowest first."""
    flags, bar, rest = rule.partition("|")
    if bar and FLAGS.fullmatch(flags):
        if NOT_SHOWN & set(flags) and not re.match(CODE, flags.strip()):
            return ""
        rule = rest
        if "R" in flags:
            return rule
    variants = [VARIANT.fullmatch(part) for part in BETWEEN.split(rule)]
    words = [(match[1].lower(), match[2].strip()) for match in variants if match and match[2].strip()]
    if not words:
        return "" if any(variants) else rule
    return min(words, key=lambda pair: wanted.get(pair[0], len(wanted)))[1]
