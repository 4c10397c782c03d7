"""Names that MediaWiki gives a meaning: namespaces, languages and redirects, in the languages of large Wikipedias.

The words are those of https://LANGUAGE.wikipedia.org/w/api.php?action=query&meta=siteinfo&siprop=namespaces|
namespacealiases|magicwords. A dump's own <siteinfo> has the names of its namespaces too, but not their older names.
"""

import re


def words(lines: str) -> frozenset[str]:
    """Returns the words of a table: several on a line, with bars between."""
    return frozenset(lines.strip().replace("\n", "|").split("|"))


# Links into these namespaces show no words: files, categories and media. In lower case, without names of three letters
# or fewer, with which articles begin, too.
HIDDEN = words("""
file|image|category|media|payl|imahen|datei|bild|fichier|fil|bestand|afbeelding|файл|изображение|archivo|imagen
immagine|plik|grafika|ملف|صورة|图像|圖像|圖片|图片|文件|档案|檔案|ファイル|画像|зображення|tập tin|hình|paypay|fayl
ficheiro|arquivo|imagem|پرونده|تصویر|fitxer|imatge|berkas|gambar|파일|그림|датотека|datoteka|slika|слика|bilde
dosya|resim|сурт|tiedosto|kuva|soubor|obrázok|obrázek|fájl|kép|räsem|рәсем|fișier|fişier|fitxategi|irudi
tóng-àn|imej|קובץ|תמונה|dosiero|պատկեր|billede|картинка|tasvir|delwedd|выява|αρχείο|εικόνα|pilt|súbor|сурет
swret|سۋرەت|فایل|vaizdas|imaxe|चित्र|فائل|şəkil|ფაილი|სურათი|படிமம்|চিত্র|ไฟล์|ภาพ|податотека|fasciculus|imago
ficheru|archivu|imaxen|దస్త్రం|ఫైలు|బొమ్మ|attēls|lêer|beeld|ဖိုင်|പ്രമാണം|ചിത്രം|skeda|faili|picha|wêne
پەڕگە|وێنە|íomhá|ਤਸਵੀਰ|ચિત્ર|ಚಿತ್ರ|ගොනුව|රූපය|ឯកសារ|រូបភាព|зураг|mynd|ofbyld|טעקע|בילד|دوتنه|انځور|عڪس|চিত্ৰ|ଫାଇଲ
restr|skeudenn|fichièr|barkas|talaksan|larawan|ຮູບ|kategoriya|kategorie|catégorie|kategori|categorie|категория
categoría|categoria|kategoria|تصنيف|分类|分類|カテゴリ|категорія|thể loại|kaarangay|رده|분류|категорија|kategorija
категори|кадегар|тоба|luokka|kategória|төркем|törkem|lūi-pia̍t|קטגוריה|kategorio|կատեգորիա|turkum|categori
катэгорыя|κατηγορία|kategooria|санат|sanat|سانات|بؤلمه|श्रेणी|زمرہ|kateqoriya|კატეგორია|பகுப்பு|বিষয়শ্রেণী
หมวดหมู่|వర్గం|ကဏ္ဍ|വർഗ്ഗം|വിഭാഗം|वर्ग|jamii|гурӯҳ|kategorî|پۆل|catagóir|ਸ਼੍ਰੇਣੀ|શ્રેણી|ವರ್ಗ|ප්‍රවර්ගය
ចំណាត់ថ្នាក់ក្រុម|ໝວດ|ангилал|flokkur|kategory|קאַטעגאָריע|קאטעגאריע|وېشنيزه|زمرو|শ্ৰেণী|শ্রেণী|ଶ୍ରେଣୀ|rummad
kategorya
""")
# Names of files that are words of other languages, with which titles begin: [[Imagine: John Lennon]].
WORDLIKE = words("fail|figura|imagine")
FILE_NAME = re.compile(r"(?i)[^|#]*\.[a-z0-9]{2,4}\s*(?:[|#]|$)")
# English names of the other namespaces, which every wiki knows. https://www.mediawiki.org/wiki/Help:Namespaces
OTHERS = words("""
talk|user|user talk|project|project talk|wikipedia|wikipedia talk|file talk|mediawiki|mediawiki talk|template
template talk|help|help talk|category talk|portal|portal talk|module|module talk|draft|draft talk|special|user blog
message wall|thread|board|board thread|forum|forum talk|blog|timedtext|book|book talk|topic
""")
# A link into the Wikipedia of one of these languages shows no words. https://meta.wikimedia.org/wiki/List_of_Wikipedias
LANGUAGES = words("""
aa|ab|ace|ady|af|ak|als|alt|am|ami|an|ang|ann|anp|ar|arc|ary|arz|as|ast|atj|av|avk|awa|ay|az|azb|ba|ban|bar|bat-smg
bbc|bcl|bdr|be|be-tarask|be-x-old|bew|bg|bh|bi|bjn|blk|bm|bn|bo|bpy|br|bs|btm|bug|bxr|ca|cbk-zam|cdo|ce|ceb|ch|cho
chr|chy|ckb|cmn|co|cr|crh|cs|csb|cu|cv|cy|cz|da|dag|de|dga|din|diq|dk|dsb|dtp|dty|dv|dz|ee|egl|el|eml|en|eo|epo|es
et|eu|ext|fa|fat|ff|fi|fiu-vro|fj|fo|fon|fr|frp|frr|fur|fy|ga|gag|gan|gcr|gd|gl|glk|gn|gom|gor|got|gpe|gsw|gu|guc
gur|guw|gv|ha|hak|haw|he|hi|hif|ho|hr|hsb|ht|hu|hy|hyw|hz|ia|iba|id|ie|ig|igl|ii|ik|ilo|inh|io|is|it|iu|ja|jam|jbo
jp|jv|ka|kaa|kab|kbd|kbp|kcg|kg|kge|ki|kj|kk|kl|km|kn|knc|ko|koi|kr|krc|ks|ksh|ku|kus|kv|kw|ky|la|lad|lb|lbe|lez
lfn|lg|li|lij|lld|lmo|ln|lo|lrc|lt|ltg|lv|lzh|mad|mai|map-bms|mdf|mg|mh|mhr|mi|min|minnan|mk|ml|mn|mni|mnw|mo|mos
mr|mrj|ms|mt|mus|mwl|my|myv|mzn|na|nah|nan|nap|nb|nds|nds-nl|ne|new|ng|nia|nl|nn|no|nov|nqo|nr|nrm|nso|nup|nv|ny|oc
olo|om|or|os|pa|pag|pam|pap|pcd|pcm|pdc|pfl|pi|pih|pl|pms|pnb|pnt|ps|pt|pwn|qu|rki|rm|rmy|rn|ro|roa-rup|roa-tara
rsk|ru|rue|rup|rw|sa|sah|sat|sc|scn|sco|sd|se|sg|sgs|sh|shi|shn|si|simple|sk|skr|sl|sm|smn|sn|so|sq|sr|srn|ss|st
stq|su|sv|sw|syl|szl|szy|ta|tay|tcy|tdd|te|tet|tg|th|ti|tig|tk|tl|tly|tn|to|tok|tpi|tr|trv|ts|tt|tum|tw|ty|tyv|udm
ug|uk|ur|uz|ve|vec|vep|vi|vls|vo|vro|wa|war|wo|wuu|xal|xh|xmf|yi|yo|yue|za|zea|zgh|zh|zh-cfr|zh-classical|zh-cn
zh-min-nan|zh-tw|zh-yue|zu
""")
REDIRECTS = words("""
#redirect|#хьажайо|aanstuur|adkas|ail-cyfeirio|ailgyfeirio|al|aliah|alidirekti|alidirekto|alidirektu|alih|ancaminar
athsheoladh|aýdaw|bağlantı|beralîkirin|birzuzendu|daskedyans|deurverwiezing|dirección|dirijar|doorverwijzing
duurverwiezing|elekezo|endrecera|fihodinana|hetenayiş|istiqamətləndirmə|i̇sti̇qamətləndi̇r|i̇sti̇qamətləndi̇rmə
kiahou|kúfù|leidt_öm_op|lencong|ohjaus|omdiriger|omdirigering|ođđasitstivren|patrz|peradresavimas|presmeruj
preusmeri|preusmeritev|preusmjeri|przekieruj|pupinah|pusapuna|přesměruj|rajikemma|redireccio|redireccion|redirecció
redirección|redirecionamento|redirect|redirecteaza|redirection|redirige|redirèccion|reendrecera|renviament
ridirejtim|ridrejto|rimando|rindirizza|rinvia|rinvio|stir|stivre|stivren|suuna|tam|tawa|tilvísun
tojədən_i̇sti̇ğomət_doy|uudelleenohjaus|varda|viruleedung|weiterleitung|wiederleiden|yo'naltirish|yonaltirish
yoʻnaltirish|yönlendir|yönlendirme|yönlendi̇r|yönlendi̇rme|yönləndi̇rmə|yönnendi̇r|yönnendi̇rmä|yönnendi̇rmäkler
átirányítás|æрвитæн|æрвыст|ömleide|ömleide_op|ömleidung|đổi|ανακατευθυνση|ανακατεύθυνση|айдау|види|виж|джибериу
дӏасахьажор|көжүрүлге|ластар|перанакіраванне|перанакіраваньне|перенапр|перенаправление|перенаправлення|пренасочване
пренасочување|преусмери|преусмјери|прѣнаправлєниѥ|равона|рарвыст|редирект|утаарыы|утр|чиглүүлэг|шигледир|юнәлтү
վերահղում|վերայղում|הפניה|ווייטערפירן|פניה|بور|تحويل|تغییر مسیر|تغییر_مسیر|تغییرمسیر|رجوع مکرر|رجوع_مکرر|مخګرځ
مڑجوڑ|چوريو|ڕەوانەکەر|ܨܘܝܒܐ|अनुप्रेषण|अनुप्रेषित|अनुप्रेषितम्|पुनर्निदेशन|पुनर्निर्दिष्टम्|पुनर्निर्देशन
पुनर्निर्देशित|पुनर्प्रेषित|पुर्ननिर्देशन|পুনঃনির্দেশ|পুনঃর্নির্দেশ|পুননির্দেশ|পুনর্নির্দেশ|ਰੀਡਾਇਰੈਕਟ|ਰੀਡਿਰੈਕਟ
ଲେଉଟାଣି|வழிமாற்று|దారిమార్పు|തിരിച്ചുവിടുക|തിരിച്ചുവിടൽ|പാരജാലകം|යළියොමුව|เปลี่ยนทาง|გადამისამართება|បញ្ជូនបន្ត
ប្ដូរចំណងជើង|ប្ដូរទីតាំង|ប្ដូរទីតាំងទៅ|ប្តូរទីតាំង|ប្តូរទីតាំងទៅ|リダイレクト|跳轉|転送|重定向|重新導向|넘겨주기
""")
REDIRECT = re.compile(r"\s*#\s*([^\W\d][^\[\]#:\n]{0,40}?)\s*:?\s*\[\[")
ENGLISH = {"-2": "Media", "6": "File", "14": "Category"}  # number of a namespace -> its English name


def is_hidden(target: str) -> bool:
    """Returns whether a link to `target` shows no words: a file, a category, or the page in another language."""
    prefix, colon, rest = target.partition(":")
    prefix = prefix.strip(" _").replace("_", " ").lower()
    is_name = prefix in HIDDEN or prefix in LANGUAGES or (prefix in WORDLIKE and FILE_NAME.match(rest) is not None)
    return bool(colon) and is_name


def is_redirect(markup: str) -> bool:
    """Returns whether a page leads only to another one."""
    match = REDIRECT.match(markup)
    return match is not None and not REDIRECTS.isdisjoint((match[1].lower(), match[1].lower().split(" ")[0]))


class Local:
    """The names of namespaces in a wiki's language, from its <siteinfo>."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # number -> name
        self._keys = dict.fromkeys(HIDDEN | OTHERS, "other") | {"": "0"}  # name -> number
        self._patterns: list[tuple[re.Pattern[str], str]] = []

    def add(self, key: str, name: str) -> None:
        """Adds the namespace of number `key`."""
        self._names[key] = name
        self._keys[name.lower()] = key
        if key in ENGLISH and name.lower() not in HIDDEN:
            words = re.escape(name).replace(r"\ ", "[ _]+")
            self._patterns.append((re.compile(rf"(?i)\[\[[ _]*{words}[ _]*:"), f"[[{ENGLISH[key]}:"))

    def name(self, key: str) -> str:
        """Returns the name of a namespace, or its number where it has none."""
        return self._names.get(key) or f"namespace {key}"

    def key(self, title: str) -> str:
        """Returns the number of the namespace that a page's title names; "other" for one known only by its name."""
        prefix, colon, _ = title.partition(":")
        return self._keys.get(prefix.strip().lower(), "0") if colon else "0"

    def in_english(self, markup: str) -> str:
        """Returns the markup with English names of the namespaces that ENGLISH has."""
        for pattern, name in self._patterns:
            markup = pattern.sub(name, markup)
        return markup
