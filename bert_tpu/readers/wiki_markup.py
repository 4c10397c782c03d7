"""Counts what is removed of a wiki's markup and what is left, and names wikis whose text is not in their prose."""

import collections
from collections.abc import Iterable, Mapping, Sequence
import re

# What MediaWiki would not show: brackets of templates, links and tables, and tags.
LEFT = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|</?[A-Za-z][\w-]*(?:\s[^<>\n]{0,300})?>")
# Text of other pages: https://wikisource.org/wiki/Help:Transclusion, and, with the German, Portuguese and Hebrew names,
# https://www.mediawiki.org/wiki/Extension:Labeled_Section_Transclusion.
TRANSCLUDED = re.compile(
    r"<pages\s[^<>]*\bindex\s*=|\{\{\s*(?:#(?:lst[hx]?|(?:section|abschnitt|trecho)(?:-[xhü])?|קטע)\s*:|:\s*[^\s{}|:])",
    re.IGNORECASE,
)
LEAST_CHARS = 1000  # of markup; less says little about a wiki
LITTLE = 0.1  # share of the markup's characters below which nearly all is lost; of Wikipedias 40% to 60% are prose
MANY = 0.1  # share of the articles that are made of other pages from which on they are named

COUNTS = ("markup_articles", "markup_characters", "prose_characters", "markup_left", "transcluded")


def count(markup: str, prose: str) -> collections.Counter[str]:
    """Returns counts of an article. They add up.

    markup: the article.
    prose: its text without markup.
    """
    left, is_made = len(LEFT.findall(prose)), TRANSCLUDED.search(markup) is not None
    return collections.Counter(dict(zip(COUNTS, (1, len(markup), len(prose), left, int(is_made)), strict=True)))


def report(total: Mapping[str, int]) -> list[str]:
    """Sentences for a person about the sum of some articles' counts; none without markup."""
    markup, prose = total.get("markup_characters", 0), total.get("prose_characters", 0)
    if not markup:
        return []
    left = f"; brackets and tags left in it: {count:,}" if (count := total.get("markup_left", 0)) else ""
    return [f"wiki markup: {prose:,} of {markup:,} characters ({prose / markup:.0%}) are prose and stay{left}"]


def losses(by_source: Sequence[tuple[str, Mapping[str, int]]]) -> list[tuple[str, str]]:
    """Returns why nearly all the text of some wikis is lost, and what to do. by_source: path and sum of counts."""
    found = []
    poor = [
        (path, counts["prose_characters"] / counts["markup_characters"])
        for path, counts in by_source
        if counts.get("markup_characters", 0) >= LEAST_CHARS
        and counts["prose_characters"] < LITTLE * counts["markup_characters"]
    ]
    made = [
        (path, counts["transcluded"] / counts["markup_articles"])
        for path, counts in by_source
        if counts.get("transcluded", 0) and counts["transcluded"] >= MANY * counts["markup_articles"]
    ]
    if made:
        lost = (
            "take their text from other pages (<pages index=...>, {{#lst:...}}), as on Wikisource, and that text "
            "is not read"
        )
        remedy = "read it ready-made, for example from hf://datasets/wikimedia/wikisource/20231201.en/*"
        found.append((f"{made[0][1]:.0%} of the articles of {_names(made)} {lost}", remedy))
    if poor := [pair for pair in poor if pair[0] not in dict(made)]:
        lost = (
            "are prose, because lists, tables and templates are removed, and this wiki has its text in them, as "
            "Wikiquote and Wiktionary do"
        )
        remedy = "extract its text, for example with mwparserfromhell, and give it as JSON lines"
        found.append((f"only {poor[0][1]:.1%} of the characters of {_names(poor)} {lost}", remedy))
    return found


def notes(articles: Iterable[tuple[str, str, str]]) -> list[str]:
    """Returns `losses` as sentences. articles: some of their paths, markup and prose."""
    by_source: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for path, markup, prose in articles:
        by_source[path].update(count(markup, prose))
    return [f"{problem}: {remedy}" for problem, remedy in losses(list(by_source.items()))]


def _names(pairs: Sequence[tuple[str, float]]) -> str:
    more = f" and {len(pairs) - 1:,} more" if len(pairs) > 1 else ""
    return pairs[0][0] + more
