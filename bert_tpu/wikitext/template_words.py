"""Names of templates that show words of the sentence around them, by what they show. In lower case.

https://LANGUAGE.wikipedia.org/wiki/Template:NAME says what each shows.
"""

from bert_tpu.wikitext import namespaces

# Templates that show the first of their unnamed arguments.
FIRST = namespaces.words("""
fmtn|carece de fontes2|pbpe|pepb|pbpe2|pepb2|ta|nummer|számol
כתב קטן|מונחון|ציטוטון|اختصار|루비|ruby2|fontsize|c|center block
w|section link|notatypo|avoid wrap|extinct|us patent
nowrap|nobr|nobold|noitalic|small|smaller|big|bigger|larger|large|huge|em|strong|bold|italic|italics|underline|u
mvar|math|var|abbr|abbrv|tooltip|sic|as written|not a typo|proper name|mono|tt|code|kbd|key|keypress|samp|sup|sub
vanchor|visible anchor|anchor text|smallcaps|sc|sc1|sc2|small caps|linktext|angle bracket|angbr|angbr ipa|gloss
chem2|unicode|polytonic|polytonisch|hebr|script/hebrew|script/arabic|script|overline|citation needed span|cn span
clarify span|clarify-span|disputed inline span|ill|link-interwiki|interlanguage link|interlanguage link multi|flag
flagcountry|flagu|flagg|cquote|okina|literal translation|lit|nihongo krt|snamei|sname|species|taxon|no wrap|nowiki
delink|resize text|center|centered|block indent|indent|pull quote|frasequote|xt|tq|text|quote inline|nstag|lnobr
souligner|petit|petites capitales|smallcap|abréviation|abrd|abréviation discrète|corr|refnec|référence nécessaire
référence souhaitée|citation nécessaire|passage non neutre|lien|abr|exposant|exp|guil|lnb|grossir|formatnum|zahl
nts|esd|versalita|subrayado|cita requerida texto|comment|s|нет переносов|нобр|подсказка|романские
флагификация|флаг страны|tutto attaccato|chiarire|citazione necessaria|senza fonte|maiuscoletto|szám|romanes|rom
unicitat|nobreak|fakt tekst|仮リンク|読みリンク|要出典範囲|jis2004フォント|jis2004f|jis90フォント|cjk
補助漢字フォント|拡張漢字|cjk統合漢字拡張|ruby|ルビ|ruby-ja|ruby-zh|ruby-zh-p|lj|僻字|internal link helper|ilh|한자
임시링크|إنج|إنك|إنجليزية|لاتينية|به انگلیسی|انگلیسی|چر|lang-x|inglese|latino|английский|мнемоника
""")
BLOCKS = namespaces.words("""
quote|blockquote|block quote|bq|poemquote|zitat|citation bloc|citation|cytat|citat|citaat|citát|cita|citazione
цитата|اقتباس|引用文|quotation|cite quote
""")
# The second of the arguments, and the last.
SECOND = namespaces.words("""
lang|langx|langue|language|lang2|llang|언어|språk|vjazyce2|cizojazyčně|dil|w języku|j|resize|color|colour
font color|background color|hover title|h:title|hovertitle|sort|nihongo2|rtl-lang|line-height|ref-lang|text color
fontcolor|vjazyku|kieli|nyelv
""")
LAST = frozenset(["transl", "transliteration", "translit", "translitération", "font", "farbe", "tsl"])
JOINED = namespaces.words("""
gaps|chem|linktext list|unité|unidad|unidade|unitats|nombre|nb|unit|date-|date|num|число|unité2|m|unità di misura
val|nums|dunité
""")
UNITS = frozenset(["unité", "unité2", "dunité", "unidad", "unidade", "unitats", "unit"])  # a third argument is a power
WORDS = {
    "ndash": "–", "en dash": "–", "endash": "–", "–": "–", "mdash": "—", "em dash": "—", "emdash": "—",
    "—": "—",
    "snd": " – ", "spnd": " – ", "sndash": " – ", "spaced ndash": " – ", "spaced en dash": " – ", "spd": " – ",
    "spaced endash": " – ",
    "snds": " – ", "spaced mdash": " — ", "nbsp": " ", "nnbsp": " ", "thinsp": " ", "thin space": " ", "space": " ",
    "spaces": " ",
    "sp": " ", "pad": " ", "figure space": " ", "hair space": " ", "nbs": " ", "zwsp": "", "zwj": "",
    "zwnj": "\u200c", "wbr": "",
    "shy": "", "0": "", "!": "|", "=": "&#61;", "'": "'", "''": "″", "'s": "'s", "\"": "\"", "pipe": "|", "·": " · ",
    "dot": " · ",
    "middot": " · ", "•": " • ", "bull": " • ", "bullet": " • ", "ell": "ℓ", "pi": "π", "times": "×",
    "minus": "−", "+-": "±",
    "±": "±", "sharp": "♯", "flat": "♭", "natural": "♮", "degree": "°", "deg": "°", "nb": " ",
    "e": "e", "er": "er", "re": "re", "ème": "e", "av jc": "av. J.-C.", "av. j.-c.": "av. J.-C.", "ap jc": "apr. J.-C.",
    "apr. j.-c.": "apr. J.-C.", "me": "Me", "mme": "Mme", "mlle": "Mlle", "st": "St", "ste": "Ste", "aka": "a.k.a.",
    "i.e.": "i.e.",
    "e.g.": "e.g.", "ad": "AD", "bc": "BC", "bce": "BCE", "ce": "CE", "--": " — ", "тире": " — ", "—тире": " — ",
    "ё": "", "км": "км",
}  # fmt: skip
SHIPS = namespaces.words("""
uss|hms|ss|rms|ms|mv|sms|hmas|hmcs|hmnzs|usns|ins|uscgc|gts|rv|smu|hnlms|hdms|hswms|orp|usat|rfa|hmt|jds|tcg|nrp
""")
