"""Templates whose words belong to a sentence: {{lang|fr|mot}}, {{convert|5|km}}, {{nowrap|x}}. All others leave a gap.

A wiki's templates are programs that a dump's reader cannot run. The names here are those that many Wikipedias share, or
that are frequent in one of the large ones. https://LANGUAGE.wikipedia.org/wiki/Template:NAME says what each shows.
"""

from collections.abc import Callable
import re

from bert_tpu.wikitext import tags, template_words
from bert_tpu.wikitext.tags import BREAK, GAP

Special = Callable[[list[str], dict[str, str]], str]  # the words of a template with these unnamed and named arguments

FUNCTIONS = frozenset(("lc", "uc", "lcfirst", "ucfirst", "formatnum", "padleft", "nowrap", "anchorencode"))
RANGES = {
    "-": "–", "–": "–", "to": " to ", "and": " and ", "or": " or ", "by": " by ", "x": " × ", "×": " × ",
    "+/-": " ± ", "&": " & ",
    "to about": " to about ", "and(-)": " and ", "to(-)": " to ", "or(-)": " or ", "-to-": "-to-", "*": " × ",
}  # fmt: skip
UNITS = {
    "c": "°C", "f": "°F", "km2": "km²", "m2": "m²", "sqmi": "square miles", "sqft": "square feet",
    "cuft": "cubic feet", "mi2": "sq mi",
    "m3": "m³", "km3": "km³", "acre": "acres", "mi": "miles", "lb": "lb", "kn": "knots", "ha": "ha", "ft2": "sq ft",
    "sqkm": "km²",
}  # fmt: skip
PLURALS = {
    "miles": "mile",
    "acres": "acre",
    "knots": "knot",
    "square miles": "square-mile",
    "square feet": "square-foot",
}
MONTHS = "January February March April May June July August September October November December"
MONTH_NUMBERS = {str(number) for number in range(1, 13)} | {f"0{number}" for number in range(1, 10)}
NAME_CHARS = re.compile(r"[^\w .:/-]")  # that no name of a gap has, lest something removes a part of it
NAMED = re.compile(r"\s*([^\W\d][\w \-]{0,30}|\d{1,2})\s*=(?!=)(.*)", re.DOTALL)
NUMBER = re.compile(r"[\d.,/+−-]+")
# Templates whose name is what they show: the French {{1er}} and {{XIXe siècle}}, {{XIX}}, {{1/2}}, the Polish {{ang.}}.
OWN_NAME = re.compile(
    r"(?:\d{1,4}|[IVXLC]{1,8})(?:er|re|e|de|nd)?(?: siècle(?: av\. J\.-C\.)?)?|\d/\d|[IVXLC]+-[IVXLC]+|[a-zß-ž]{2,6}\."
)
# Templates named after a language: {{lang-fr|mot}}, also in Chinese, Finnish, Serbian and Persian.
BY_LANGUAGE = re.compile(r"(?:lang|link|k|ilh|internal link helper|јез|jez)[-/]\w{2,4}(?:-\w+)*|به \w+")
GERMAN = re.compile(r"[a-z]{2,3}S")  # {{enS|word}}


def text(parts: list[str]) -> str:
    """Returns what a template shows: its words if they are known, or else a gap with its name.

    parts: the name and the arguments, whose own templates and links are text already.
    """
    name = " ".join(parts[0].replace("_", " ").split())
    plain = name.lower().removeprefix("template:")
    before, colon, _ = plain.partition(":")
    if colon and before in FUNCTIONS:
        return name.partition(":")[2].strip()
    if colon and before == "#tag":  # {{#tag:ref|...}} is <ref>...</ref>
        return tags.content(plain.partition(":")[2].strip(), "", parts[1].strip() if len(parts) > 1 else "")
    words = _words(name, plain, parts[1:])
    if words is None:
        return f"{GAP}{NAME_CHARS.sub('', plain)[:40]}{GAP}"
    return words


def _words(name: str, plain: str, arguments: list[str]) -> str | None:
    """Returns the words of a known template."""
    if not arguments:
        return template_words.WORDS.get(plain, name if OWN_NAME.fullmatch(name) else None)
    unnamed, named = _arguments(arguments)
    if not unnamed:
        return _named(plain, named)
    special = SPECIAL.get(plain)
    if special is not None:
        return special(unnamed, named)
    if plain in template_words.SECOND:
        return unnamed[min(1, len(unnamed) - 1)] if plain != "lang" or len(unnamed) > 1 else None
    if plain in template_words.LAST:
        return unnamed[-1]
    if plain in template_words.FIRST or BY_LANGUAGE.fullmatch(plain) or GERMAN.fullmatch(name):
        return named.get("lt") or unnamed[0]
    if plain in template_words.BLOCKS:
        return f"{BREAK}{unnamed[0]}{BREAK}"
    if plain in template_words.JOINED:
        return _joined(plain, unnamed, named)
    if plain in template_words.SHIPS:
        return f"{plain.upper()} {unnamed[0]}" + (f" ({unnamed[1]})" if len(unnamed) > 1 and unnamed[1] else "")
    return template_words.WORDS.get(plain)


def _arguments(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Returns the arguments without a name, or with a number for a name, by their number; and the others by name."""
    numbered: dict[int, str] = {}
    named: dict[str, str] = {}
    number = 0
    for argument in arguments:
        match = NAMED.match(argument)
        if match is None:
            number += 1
            numbered[number] = argument.strip()
        elif match[1].isdecimal():
            numbered[int(match[1])] = match[2].strip()
        else:
            named[match[1].strip().lower()] = match[2].strip()
    return [numbered.get(i, "") for i in range(1, max(numbered, default=0) + 1)], named


def _named(plain: str, named: dict[str, str]) -> str | None:
    """Returns the words of a known template all of whose arguments have names."""
    quoted = named.get("text") or named.get("quote") or named.get("texte") or named.get("citazione")
    if plain in template_words.BLOCKS:
        return f"{BREAK}{quoted}{BREAK}" if quoted else None
    if plain in template_words.FIRST:
        return named.get("lt") or named.get("fr") or quoted
    if plain == "وإو":
        return named.get("نص") or named.get("عر")
    return None


def _joined(plain: str, unnamed: list[str], named: dict[str, str]) -> str:
    """Returns a number with its unit, a date, or the parts of a formula."""
    if plain in ("gaps", "chem", "linktext list"):
        return "".join(unnamed)
    if plain == "val":
        unnamed = [f"{unnamed[0]} ± {unnamed[1]}" if len(unnamed) > 1 else unnamed[0]]
        unnamed += [f"× 10^{named['e']}"] if "e" in named else []
    if plain in template_words.UNITS and len(unnamed) > 2 and unnamed[2] in ("2", "3"):
        unnamed = [unnamed[0], unnamed[1] + "²³"[int(unnamed[2]) - 2]]
    unit = named.get("u") or named.get("ul") or ""
    return " ".join(word for word in [*unnamed[:3], unit] if word)


def _convert(unnamed: list[str], named: dict[str, str]) -> str:
    """Returns the quantity that is converted, not the result: "5 km", "5 to 7 km", "5 ft 6 in", "5-mile"."""
    words, rest = unnamed[0].replace("+", " ") if "/" in unnamed[0] else unnamed[0], unnamed[1:]
    while len(rest) > 1 and rest[0].lower() in RANGES and NUMBER.match(rest[1]):
        words += RANGES[rest[0].lower()] + rest[1]
        rest = rest[2:]
    if not rest:
        return words
    is_adjective = named.get("adj") in ("on", "mid", "pre")
    words = _quantity(words, rest[0], is_adjective)
    if len(rest) > 2 and NUMBER.fullmatch(rest[1]) and rest[2].isalpha():
        words += " " + _quantity(rest[1], rest[2], is_adjective)
    return words


def _quantity(number: str, unit: str, is_adjective: bool) -> str:
    """Returns a number with its unit, given by the code that {{convert}} has for it: e6acre is "million acres"."""
    power = re.fullmatch(r"e([369])(.+)", unit)
    if power:
        number, unit = f"{number} {('thousand', 'million', 'billion')[int(power[1]) // 3 - 1]}", power[2]
    unit = UNITS.get(unit.lower(), unit)
    if unit in PLURALS and (is_adjective or number == "1"):
        return f"{number}{'-' if is_adjective else ' '}{PLURALS[unit]}"
    return f"{number} {unit}"


def _fraction(unnamed: list[str], named: dict[str, str]) -> str:
    return [f"1/{unnamed[0]}", "/".join(unnamed), f"{unnamed[0]} {'/'.join(unnamed[1:3])}"][min(len(unnamed), 3) - 1]


def _japanese(unnamed: list[str], named: dict[str, str]) -> str:
    """Returns a name and, in brackets, its original and its transcription."""
    inner = ", ".join(word for word in unnamed[1:3] if word)
    return f"{unnamed[0]} ({inner})" if unnamed[0] and inner else unnamed[0] or inner


def _century(unnamed: list[str], named: dict[str, str]) -> str:
    """Returns a century in French: {{s|XIX|e}} is "XIXe siècle", {{sp|XIX|e|au|XX}} has two. Elsewhere the words."""
    places = [place for place, word in enumerate(unnamed) if re.fullmatch("[IVXLC]+", word)]
    if not places:
        return unnamed[0]
    ordinals = [unnamed[place] + ("er" if unnamed[place] == "I" else "e") for place in places]
    between = [word for word in unnamed[places[0] + 1 : places[-1]] if word not in ("e", "er", "re", "")]
    return f" {between[0] if between else 'et'} ".join(ordinals) + " siècle"


def _chinese_dates(unnamed: list[str], named: dict[str, str]) -> str:
    """Returns the dates of birth and death: {{bd|1936年|7月1日|2000年|1月1日}}."""
    return "".join(unnamed[:2]) + "－" + "".join(unnamed[2:4])


def _reading(unnamed: list[str], named: dict[str, str]) -> str:
    """Returns a name and how it is read: {{読み仮名|漢字|かんじ}}."""
    return f"{unnamed[0]}（{unnamed[1]}）" if len(unnamed) > 1 else unnamed[0]


def _as_of(unnamed: list[str], named: dict[str, str]) -> str:
    """Returns a month of a year, or a year: {{As of|2010|5}}."""
    month = MONTHS.split()[int(unnamed[1]) - 1] + " " if unnamed[1:] and unnamed[1] in MONTH_NUMBERS else ""
    return f"{'as' if 'lc' in named else 'As'} of {month}{unnamed[0]}"


def _sounds(unnamed: list[str], named: dict[str, str]) -> str:
    """Returns a transcription: {{IPA|mo}}, or with the language {{IPA|fr|mo}}."""
    return unnamed[1] if len(unnamed) > 1 and re.fullmatch("[a-z]{2,3}(-[A-Za-z]+)?", unnamed[0]) else unnamed[0]


def _after(word: str) -> Special:
    """Returns the function that puts `word` before the first argument."""
    return lambda unnamed, named: f"{word}{unnamed[0]}"


def _second_or_first(unnamed: list[str], named: dict[str, str]) -> str:
    return next((word for word in unnamed[1:2] if word), unnamed[0])


SPECIAL: dict[str, Special] = {
    **dict.fromkeys(("convert", "cvt", "conv", "converter", "convertir", "umrechnung"), _convert),
    **dict.fromkeys(("frac", "sfrac", "fraction", "bruch", "fracción", "frazione"), _fraction),
    **dict.fromkeys(("nihongo", "nihongo3", "japonais", "japanisch", "ญี่ปุ่น", "nihongo foot"), _japanese),
    **dict.fromkeys(("s", "s-", "sp", "sp-", "siècle", "siècles"), _century),
    **dict.fromkeys(("нп", "нп1", "нп2", "нп3", "нп4", "нп5", "не переведено", "не перекладено"), _second_or_first),
    **dict.fromkeys(("circa", "c.", "ca", "ca."), _after("c. ")),
    **dict.fromkeys(("siglo", "sigle"), _after("siglo ")),
    **dict.fromkeys(("séc", "século"), _after("século ")),
    **dict.fromkeys(("citation", "guil", "citation étrangère"), lambda unnamed, named: f"« {unnamed[0]} »"),
    **dict.fromkeys(("bd", "bd/old"), _chinese_dates),
    **dict.fromkeys(("読み仮名", "読み仮名 ruby不使用"), _reading),
    "не переведено 5": _second_or_first,
    **dict.fromkeys(("ipa", "api", "afi", "ipa text", "ipa link"), _sounds),
    "ipablink": lambda unnamed, named: f"[{unnamed[0]}]",
    "ipaslink": lambda unnamed, named: f"/{unnamed[0]}/",
    **dict.fromkeys(("us$", "usd"), _after("US$")),
    **dict.fromkeys(("gbp", "£"), _after("£")),
    **dict.fromkeys(("eur", "€"), _after("€")),
    **dict.fromkeys(("jpy", "¥", "cny"), _after("¥")),
    **dict.fromkeys(("inr", "indian rupee", "₹"), _after("₹")),
    "cad": _after("CA$"),
    "aud": _after("A$"),
    "segle": _after("segle "),
    "as of": _as_of,
    "since": _after("since "),
    "floruit": _after("fl. "),
    "p.": _after("p. "),
    "n°": _after("no "),
    "numéro": _after("no "),
    "m.": _after("M. "),
    "mme": _after("Mme "),
    "mlle": _after("Mlle "),
    "st": _after("St "),
    "ste": _after("Ste "),
    "ה-": _after("ה-"),
    "קישור שפה": lambda unnamed, named: (unnamed[2:] or unnamed[1:] or unnamed)[0],
    "e": _after("× 10^"),
    "\"": lambda unnamed, named: f"„{unnamed[0]}“",
    "höhe": lambda unnamed, named: f"{unnamed[0]} m",
    "heure": lambda unnamed, named: " h ".join(unnamed[:2]) + " h" * (len(unnamed) == 1),
    "le": lambda unnamed, named: unnamed[2] if len(unnamed) > 2 and unnamed[2] else unnamed[0],
    "music": lambda unnamed, named: template_words.WORDS.get(unnamed[0].lower(), unnamed[0]),
    "oldstyledate": lambda unnamed, named: " ".join(unnamed[:2]),
    "sclass": lambda unnamed, named: "-class ".join(unnamed[:2]),
    "ship": lambda unnamed, named: " ".join(unnamed[:2]),
}  # fmt: skip
