"""wikitext keeps the prose of Wikipedia's markup and drops the rest, in every language, closed or not."""

import re
import time

import hypothesis
from hypothesis import strategies
import pytest

from bert_tpu.wikitext import prose

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
LANGUAGES = [  # of a page's first lines, and their prose
    (
        "[[Datei:A.jpg|mini|hochkant=1.3|Blick vom [[Turm]]]]\n"
        "'''Aue''' ({{IPA|ˈaʊə}}; [[Sorbische Sprache|sorbisch]]: "
        "''Awa'') liegt auf {{Höhe|312|DE-NHN}} am {{enS|''river''}}.<ref>{{Internetquelle|url=http://x.org}}</ref>\n"
        "{{Normdaten|TYP=g}}\n[[Kategorie:Ort]] [[Bild:B.jpg|miniatur]]\n__INHALTSVERZEICHNIS_ERZWINGEN__",
        "Aue (ˈaʊə; sorbisch: Awa) liegt auf 312 m am river.",
    ),
    (
        "[[Fichier:L.png|vignette|Carte du [[lac]].]]\n"
        "Au {{s-|XIX|e}}, l'''amour'' et L{{'}}eau de l'[[Ain (département)|Ain]] "
        "à {{unité|1234|m}}{{,}}<ref name=a/> : {{citation|la mer}}.\n{{Portail|Ain}}[[Catégorie:Lac]]",
        "Au XIXe siècle, l'amour et L'eau de l'Ain à 1234 m : « la mer ».",
    ),
    (
        "[[Файл:A.jpg|мини|Вид на [[Волга|Волгу]]]]\n"
        "'''Обра́зец''' ({{lang-en|Obraz}}) — [[город]]{{sfn|Иванов|2001}}. Основан "
        "{{нп5|Смит (купец)|Смитом|en|Smith}} в {{num|5|км}}{{Нет АИ|1}}.\n[[Категория:Города]]\n__БЕЗ_ОГЛАВЛЕНИЯ__",
        "Обра́зец (Obraz) — город. Основан Смитом в 5 км.",
    ),
    (
        "[[ملف:A.jpg|تصغير|يسار|صورة [[المدينة]]]]\n"
        "'''المدينة''' ({{إنج|City}}) هي [[مدينة]]{{بحاجة لمصدر|تاريخ=2015}}. "
        "و[[نهر دجلة|النهر]] يمر بها.\n[[تصنيف:مدن|*]]\n__لافهرس__",
        "المدينة (City) هي مدينة. والنهر يمر بها.",
    ),
    (
        "[[ファイル:A.jpg|thumb|城（[[江戸]]）]]\n"
        "'''見本'''（{{lang-en|Mihon}}）は[[日本]]の{{仮リンク|市|en|City}}{{要出典|date=2012}}。"
        "<ruby>宝<rp>(</rp><rt>たから</rt><rp>)</rp></ruby>町{{R|a}}。\n[[Category:市]]\n__目次強制__",
        "見本（Mihon）は日本の市。宝町。",
    ),
    (
        "{{NoteTA|1=zh-cn:软件;zh-tw:軟體}}[[文件:A.png|缩略图|界面]]\n'''示例'''是-{zh-cn:软件;zh-tw:軟體;}-，"
        "这个-{A|zh-hant:電腦;zh-hans:计算机}-在[[美国|-{zh-hans:美国;zh-hant:美國}-]]-{T|zh:例}-。\n[[分类:软件]]",
        "示例是软件，这个计算机在美国。",
    ),
    (
        "[[चित्र:A.jpg|अंगूठाकार|दृश्य]]\n"
        "'''नगर''' [[भारत]] का [[शहर]] है।{{उद्धरण आवश्यक}} जनसंख्या {{formatnum:50000}} है।\n[[श्रेणी:नगर]]",
        "नगर भारत का शहर है। जनसंख्या 50000 है।",
    ),
]
FILES = """
[[Plik:A.jpg|mały|x]] [[Датотека:A.jpg|мини]] [[پرونده:A.jpg|چپ]] [[Dosya:A.jpg]]
[[Зображення:B.jpg]] [[Tập tin:A.jpg|nhỏ]] [[ไฟล์:A.jpg]] [[Immagine:A.jpg]] [[Ficheiro:A.jpg]]
[[תמונה:A.jpg|שמאל]] [[Αρχείο:A.jpg]] [[চিত্র:A.jpg]] [[Soubor:A.jpg]] [[Fájl:A.jpg]]
[[Tiedosto:A.jpg|x]] [[Fil:A.jpg]] [[Bestand:A.jpg]] [[파일:A.jpg|섬네일]] [[Berkas:A.jpg]]
[[Fitxer:A.jpg]] [[Slika:A.jpg]] [[档案:A.jpg]] [[Kategoria:B]] [[Категорія:B]] [[رده:B]]
[[Thể loại:B]] [[หมวดหมู่:B]] [[Categoria:B]] [[קטגוריה:B]] [[Luokka:B]] [[분류:B|x]] [[分類:B]]
"""  # in Polish, Serbian, Persian, Turkish, Ukrainian, Vietnamese, Thai, Italian, Portuguese, Hebrew, Greek and others
NOT_CLOSED = [
    ("An unclosed<ref>Book by A. More.\n\nNext<ref>b</ref> one.", "An unclosed Book by A. More.\nNext one."),
    ("A.\n{| class=x\n| a\n! b\n|-\n| c\n\nB.\n== H ==\nC.", "A.\nB.\nC."),
    ("{|\n| a\n{|\n| b\n|}\n|}\nA.\n{|\n| b\n</table>\nB.\n<table>\n<tr>\n|}\nC.", "A.\nB.\nC."),
    ("{{Infobox\n| name = Ann\n| x = [[y]]\n'''Ann''' was here.\n\nShe died.", "Ann was here.\nShe died."),
    ("Ann was {{nowrap|a poet} here.\n\nShe {{lang|fr|est}} {{gone|x}}.", "Ann was a poet here.\nShe est."),
    ("{{open|x\n\nA.\n\n== H ==\nB. }} C.", "A.\nB. C."),
    ("{|\n| a\n== H ==\nA.\n|}\nB.", "A.\nB."),
    ("{{open|x\n\nA.\n\n== H ==\nB. {{closed}} C.", "A.\nB. C."),
    ("[[Boat] and [[Ship|ships and\n\nsea ]] }} {", "Boat and ships and\nsea {"),
    ("[[File:A.jpg|thumb|A caption\nA.\n\n<gallery>\nFile:B.jpg|Words\nB.", "A.\nB."),
    ("A '''bold and ''italic\nl'''amour'' is\n'''''B'''.", "A bold and italic\nl'amour is\nB."),
    ("A. <!-- b\n\n[[Category:C]]", "A."),
    ("<ul><li>a<li>b</ul>A.\n<li>c\nB. <div>C.</div> </span>D.<b>", "A.\nB.\nC.\nD."),
    ("[http://x.org a label\nB [http://y.org] and http://z.org/a_(b). C", "a label\nB and. C"),
]
TOKENS = [
    "{{", "}}", "{{{", "}}}", "{{lang|fr|", "[[", "]]", "[[File:", "|", "=", "''", "'''", "<ref>", "</ref>",
    "<ref name=a/>", "<div>", "</div>", "<li>",   "\n", "\n\n", "\n* ", "\n== ", " ==\n", "\n{|",
    "\n|}", "\n|-", "-{", "}-", "zh:", ";", "<!--", "-->", "[http://x.org ", "]", "(", ")", ",", " ", "a", "Ann", "é",
    "1", ":", "\x00", "\x01", "<br>",
]  # fmt: skip


def test_prose_stays_and_lists_tables_headings_references_and_files_go():
    assert prose.text(PAGE).split("\n") == PROSE


@pytest.mark.parametrize(("markup", "words"), LANGUAGES)
def test_markup_of_other_languages_goes(markup, words):
    assert prose.text(markup) == words


@pytest.mark.parametrize(("markup", "words"), NOT_CLOSED)
def test_where_markup_is_not_closed_it_goes_and_the_words_stay(markup, words):
    assert prose.text(markup) == words


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        ("[[boat]]s [[Ann (poet)|]] [[Boston, Texas|]] [[Help:Foo (x)|]] [[|Foo]] [[作品（A）|]]",
         "boats Ann Boston Foo Foo 作品"),
        ("[[/sub/]] [[#Part]] [[A#b]] [[New_York]] [[A|''B'' C]]", "sub Part A#b New York B C"),
        ("[[Imagine: John Lennon]] [[Fail: A|B]] [[Imagine:A.jpg]] [[imagine:A b.svg|C]]", "Imagine: John Lennon B"),
        ("[[:fr:Paris]] [[fr:Paris]] [[zh-min-nan:P]] [[:File:A.jpg]] [[wikt:b|boat]]", "fr:Paris File:A.jpg boat"),
        ("[[CSI: Miami]] [[Mission: Impossible]] [[WP:NPOV]]", "CSI: Miami Mission: Impossible WP:NPOV"),
        ("[[file : A.jpg|20px]]a [[ Image:B|c]] b [[media:C.ogg|hear]] [[Immagine:A]]", "a b"),
        ("''θ''<sub>''i''</sub> L''''Art''' [[x|'''y'''s]]", "θi L'Art ys"),
        ("A ({{IPAc-en|x}}, {{lang|ja|漢}}; b), c ({{IPA-de|x}}) {{sfn|a}}, d ( {{gone}}; e).", "A (漢; b), c, d (e)."),
        ("{{convert|5|by|7|ft}}, {{convert|1|mi}}, {{cvt|5|mi|adj=on}}, {{convert|5|ft|6|in|m}}, {{convert|3|e6acre}}",
         "5 by 7 ft, 1 mile, 5-mile, 5 ft 6 in, 3 million acres"),
        ("{{frac|1|2}} {{frac|2|1|3}} {{USS|Nimitz|CVN-68}} {{circa|1900}} {{nihongo|Tokyo|東京|Tōkyō}} {{gaps|1|234}}",
         "1/2 2 1/3 USS Nimitz (CVN-68) c. 1900 Tokyo (東京, Tōkyō) 1234"),
        ("{{lang|2=mot|1=fr}} {{As of|2010|5}} {{as of|2011|lc=y}} {{convert|5+1/2|in}} a<ref name=b / >c",
         "mot As of May 2010 as of 2011 5 1/2 in ac"),
        ("A{{snd}}b {{nowrap|c {{lang|fr|d [[e|f]]}}}} {{ill|G|de|H}} {{quote|text=Long.}}", "A – b c d f G\nLong."),
        ("x {{a name {{within the name of another template}} of it|y}} {{[[z]]}} {{a>b}}z", "x z"),
        ("f{{#tag:ref|He was 5.|group=n}} {{#tag:math|x^2}} {{#tag:section||begin=b}}g {{#Tag: nowiki |''h''}}",
         "f x^2 g ''h''"),
        ("see [[Foo{{!}}bar]], [[a|b {{!}} c]], {{nowrap|[[Foo (x){{!}}d]] {{!}} e}}", "see bar, b | c, d | e"),
        ("{{nowrap|n {{=}} 5}} {{math|E {{=}} mc<sup>2</sup>}} {{lang|de|A {{=}} B}}", "n = 5 E = mc2 A = B"),
        ("x {{{1|given}}} {{{y}}} {{#if:a|b}} {{{{{1}}}}}z", "x given z"),
        (r"<math>\alpha \le x_{1}^2</math> and <math>\frac{a}{b}</math> b <chem>H2O</chem>", "α ≤ x_1^2 and b H2O"),
        ("a &nbsp; &#39;b&#39; &lt;ref&gt; <ref/> &amp;nbsp; c", "a 'b' <ref> c"),
        ("a&lt;ref name=x&gt;b&lt;/ref&gt; ''c''&amp;nbsp;d", "a c d"),
        ("<div style='display:none'>a</div><div>B.</div><center>C.</center><poem>D\nE</poem>", "B.\nC.\nD\nE"),
        ("<code>[[a]] x</code> <syntaxhighlight lang=c inline>if (a<b)</syntaxhighlight> <pre>c</pre>", "a x if (a<b)"),
        ("<includeonly>a</includeonly><onlyinclude>B</onlyinclude> <section begin=x />C<section end=x />", "B C"),
        ("-{zh:A}- -{R|b}- -{c}- -{-|zh:d}- -{H|zh:e}- x-{{nowrap|f}} -{sr-ec:Г;sr-el:G}-", "A b c x-f G"),
        ("__NOTOC__ __init__ __БЕЗ_ОГЛАВЛЕНИЯ__ __toc__a", "__init__ a"),
        ('a <pages index=B from=1 /> b <lst/> c <tvar|1>d</> <tabs><tab name=x>e</tab></tabs> <abc>f</abc> <ab c="d">g',
         "a b c d e f g"),
        ("a <grin> <stdio.h> vector<int> n <m and k=3> <nowiki><abc/></nowiki>",
         "a <grin> <stdio.h> vector<int> n <m and k=3> <abc/>"),
        ("<verse>A\nb</verse><choose><option>c</option><option>d</option></choose> <DPL>e</DPL>", "A\nb\nc\nd"),
        (" a b\n----\n----c\n=d=\n== e\n|f\n!g", "a b\nc\n!g"),
    ],
)  # fmt: skip
def test_forms_of_markup_show_their_words(markup, words):
    assert prose.text(markup) == words


def test_templates_that_leave_a_gap_in_a_sentence_are_named():
    markup = "At {{unknown|5}}, x{{cn}} in {{gone}} y <ref>a</ref> {{lang|fr|z}} ({{respell|a}}).\n\n{{box}} {{box}}"
    assert prose.gaps(markup) == ["unknown", "gone"]


@pytest.mark.parametrize(
    "markup", ["", FILES, "{{only|a template}}", "== Heading ==", "* a\n* list", "----", "__NOTOC__"]
)
def test_a_page_without_prose_is_empty(markup):
    assert prose.text(markup) == ""


@hypothesis.given(strategies.text("a'[]{}|=*#:;<>/\n -&!", max_size=80))
def test_any_markup_gives_lines_with_letters(markup):
    lines = prose.text(markup).split("\n")
    assert lines == [""] or all("a" in line or "A" in line for line in lines)


@hypothesis.given(strategies.lists(strategies.sampled_from(TOKENS), max_size=40))
def test_any_mixture_of_marks_is_removed(tokens):
    text = prose.text("".join(tokens))
    left = r"\{\{|\}\}|\[\[|\]\]|''|</?(?:ref|div|li)\b[^<>]*>|[\x00-\x02]|-\{[^{}]*\}-"
    assert not re.search(left, text)


def test_no_markup_takes_more_than_its_length():
    units = "{{ {{x}}, {{{ <ref> ''' -{ -{a {|\n </table> <div> <b [http://x == ( , <li> {{x}} <!-- __A {"
    sizes = dict.fromkeys(units.split(" "), 20_000) | {"[[a ": 600_000, "{{a|": 600_000, "<ref>a": 600_000}
    for unit, size in sizes.items():
        start = time.process_time()
        prose.text(f"{unit} " * (size // len(unit)))
        # The long ones take 0.4 s at most. A second pass over the rest for each unit takes minutes.
        assert time.process_time() - start < 5, unit
