"""wikitext keeps the prose of Wikipedia's markup and drops the rest."""

import hypothesis
from hypothesis import strategies
import pytest

from bert_tpu.readers import wikitext

PAGE = """{{Short description|x}}{{Infobox person
| name = Ann
| spouse = [[Bob]]
}}
'''Ann ''Lee''''' (born 1&nbsp;May [[1900]]) was a [[Poet|poet]]<ref name="a">Some [[ref]].</ref> and<ref name=b/> \
[[File:A.jpg|thumb|A [[caption]] here]]teacher.{{cite web|a=b}} She said "it's".

== Life ==
She lived in [https://x.org Town of X]. H<sub>2</sub>O &amp; more.<br />New line. [https://bare.org]
* item one with [[link]]
** deeper {{template}}
# numbered
: indented
; term : definition
Prose goes on.

{| class="wikitable"
! A !! B
|-
| cell || other
|}
The end. <!-- hidden --> <math>x^2</math> of <nowiki>[[it]]</nowiki>.
<gallery>
File:A.jpg|Caption
</gallery>
[[Category:People]] [[de:Ann]] [[:Category:Shown]]
__NOTOC__
"""
PROSE = [
    'Ann Lee (born 1 May 1900) was a poet and teacher. She said "it\'s".',
    "She lived in Town of X. H2O & more.",
    "New line.",
    "Prose goes on.",
    "The end. x^2 of [[it]].",
    "Category:Shown",
]


def test_prose_stays_and_lists_tables_headings_references_and_files_go():
    assert wikitext.text(PAGE).split("\n") == PROSE


@pytest.mark.parametrize("markup", ["", "{{only|a template}}", "== Heading ==", "* a\n* list", "----", "__NOTOC__"])
def test_a_page_without_prose_is_empty(markup):
    assert wikitext.text(markup) == ""


@hypothesis.given(strategies.text("a'[]{}|=*#:;<>/\n -&!", max_size=80))
def test_any_markup_gives_lines_with_letters(markup):
    lines = wikitext.text(markup).split("\n")
    assert lines == [""] or all("a" in line or "A" in line for line in lines)
