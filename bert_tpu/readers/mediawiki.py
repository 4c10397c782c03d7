"""Reads the articles of a MediaWiki dump: main namespace, without redirects, last revisions.

Understands every schema from 0.3 to 0.11, as Wikimedia, Fandom and WikiTeam publish them, with or without xmlns, <ns>
and <siteinfo>; several dumps one after another in a file; and pages without a root around them.
https://www.mediawiki.org/wiki/Help:Export#Export_format
"""

import codecs
import collections
from collections.abc import Iterator
import dataclasses
import io
from xml.parsers import expat

from bert_tpu.core import command
from bert_tpu.readers import decoding
from bert_tpu.wikitext import namespaces

CHUNK_BYTES = 1 << 16
KEPT_BYTES = 1 << 10  # more than the longest <?xml ... ?>
BLANK = b"\xef\xbb\xbf \t\r\n"  # a byte order mark and white space, which may stand before the root
FIELDS = ("page/title", "page/ns", "page/revision/timestamp", "page/revision/model")  # elements whose text is kept
# After the end of a root, these errors mean that another one begins.
NEXT_ROOT = [
    expat.errors.codes[name]
    for name in (expat.errors.XML_ERROR_JUNK_AFTER_DOC_ELEMENT, expat.errors.XML_ERROR_MISPLACED_XML_PI)
]
WRONG_ENCODING = expat.errors.codes[expat.errors.XML_ERROR_INCORRECT_ENCODING]
WIKITEXT = ("", "wikitext")  # content models; others are code, data and discussions


def texts(file: io.BufferedReader, path: str, counts: decoding.Counts) -> Iterator[str | None]:
    """Yields the markup of each article, then None. Counts the pages that are left out.

    Links to files and categories get English names of namespaces, which wikitext.prose knows.

    Raises UserError for a file that is not a whole dump, and for a dump without articles or without their text.
    """
    dump = _Dump(path, counts)
    while chunk := file.read(CHUNK_BYTES):
        dump.feed(chunk)
        for article in dump.articles:
            yield article
            yield None
        dump.articles.clear()
    dump.close()


@dataclasses.dataclass
class _Revision:
    """A revision of a page."""

    timestamp: str = ""
    model: str = ""
    text: str = ""
    is_stub: bool = False  # the text is not in the file, only its size


@dataclasses.dataclass
class _Page:
    """A page while it is read."""

    title: str = ""
    namespace: str = ""
    is_redirect: bool = False
    revisions: list[_Revision] = dataclasses.field(default_factory=list)  # the newest, and one that is not yet read

    def drop_older(self) -> int:
        """Drops the older of two revisions. Returns how many are dropped."""
        if len(self.revisions) < 2:
            return 0
        self.revisions = [max(reversed(self.revisions), key=lambda revision: revision.timestamp)]
        return 1


def _is_utf8(chunk: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(chunk)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


class _Dump:
    """The state of a dump while it is read."""

    def __init__(self, path: str, counts: decoding.Counts) -> None:
        self.file, self.counts = path, counts
        self.articles: list[str] = []  # not yet taken
        self.local = namespaces.Local()
        self.pages: collections.Counter[str] = collections.Counter()  # by namespace
        self.stubs = 0  # pages of which only the size is in the file
        self.parser: expat.XMLParserType | None = None  # None where a root is expected
        self.lines = self.fed = 0  # lines before this root, and bytes of it before this chunk
        self.before = b""  # the end of what was fed before this chunk

    def feed(self, chunk: bytes) -> None:
        """Parses more of the file. Where a root has ended and another begins, a new parser takes over."""
        while chunk:
            if self.parser is None:
                root = chunk.lstrip(BLANK)
                self.lines += chunk[: len(chunk) - len(root)].count(b"\n")
                if not root:
                    return
                chunk = root
                self._begin(None if chunk.isascii() or not _is_utf8(chunk) else "utf-8")
            assert self.parser is not None
            try:
                self.parser.Parse(chunk, False)
                self.fed += len(chunk)
                self.before = (self.before + chunk)[-KEPT_BYTES:]
                return
            except (ValueError, LookupError) as fault:
                self._begin_again(fault, chunk)
            except expat.ExpatError as fault:
                if fault.code == WRONG_ENCODING:
                    self._begin_again(fault, chunk)
                    continue
                if fault.code not in NEXT_ROOT or self.path:
                    raise self._refusal(fault) from None
                # The root, or its <?xml ... ?>, may begin before this chunk.
                start = len(self.before) + self.parser.ErrorByteIndex - self.fed
                if start < 0:
                    raise self._refusal(fault) from None
                self.lines += fault.lineno - 1
                chunk = (self.before + chunk)[start:]
                self.parser = None

    def close(self) -> None:
        """Raises UserError if the file ends too early or if nothing in it is an article's text."""
        try:
            if self.parser is not None:
                self.parser.Parse(b"", True)
        except expat.ExpatError as fault:
            place = f"in line {self.lines + fault.lineno}, within <{self.path}>"
            advice = "fetch it again, or, if it is a part on purpose, such as enwik9, end it after its last </page>"
            if self.path == "mediawiki":  # after a page
                place, advice = "without </mediawiki>", "fetch it again, or add that line if these pages are enough"
            raise command.UserError(f"{self.file} is not a whole MediaWiki dump: it ends {place}; {advice}") from None
        if not self.pages:
            raise command.UserError(f"{self.file} has no pages; fetch pages-articles instead")
        if not self.pages["0"]:
            names = ", ".join(f"{self.local.name(key)} ({count:,})" for key, count in self.pages.most_common(5))
            raise command.UserError(f"{self.file} has no articles, only pages of {names}; fetch pages-articles instead")
        if self.stubs and self.stubs == self.pages["0"]:
            raise command.UserError(
                f"{self.file} lists pages without their text; fetch pages-articles instead of stubs"
            )

    def _begin_again(self, fault: Exception, chunk: bytes) -> None:
        """Reads UTF-8 where another encoding is declared, as iconv leaves it. Raises UserError for other bytes."""
        if self.fed or not _is_utf8(chunk):
            raise command.UserError(
                f"{self.file} declares an encoding that is not read ({fault}); convert it by iconv -f ENCODING -t UTF-8"
            ) from None
        self._begin("utf-8")

    def _begin(self, encoding: str | None) -> None:
        """Begins a root. encoding: of the file, or None for the one that it declares."""
        self.parser = expat.ParserCreate(encoding)
        if hasattr(self.parser, "SetReparseDeferralEnabled"):  # expat 2.6 would report a root's end chunks later
            self.parser.SetReparseDeferralEnabled(False)
        self.parser.buffer_text = True
        self.parser.buffer_size = 1 << 18
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.path, self.fed = "", 0
        self.text: list[str] = []

    def _refusal(self, fault: expat.ExpatError) -> command.UserError:
        return command.UserError(
            f"{self.file} is not a MediaWiki dump that can be read: line {self.lines + fault.lineno} is not XML "
            f"({expat.ErrorString(fault.code)}); fetch it again, or correct the line"
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if not self.path and name not in ("mediawiki", "page"):
            kind = "Wikimedia's abstracts" if name == "feed" else f"<{name}>"
            raise command.UserError(f"{self.file} has {kind}, not MediaWiki's pages; fetch pages-articles instead")
        self.path = f"{self.path}/{name}" if self.path else name
        match self.path.removeprefix("mediawiki/"):
            case "page":
                self.page = _Page()
            case "page/redirect":
                self.page.is_redirect = True
            case "page/revision":
                self.page.revisions.append(_Revision())
            case "page/revision/text":
                self.page.revisions[-1].is_stub = attributes.get("bytes", "0") != "0"
            case "siteinfo/namespaces/namespace":
                self.key = attributes.get("key", "")
            case key if key not in FIELDS:
                return
        self.text = []
        assert self.parser is not None
        self.parser.CharacterDataHandler = self.text.append

    def _end(self, name: str) -> None:
        assert self.parser is not None
        self.parser.CharacterDataHandler = None
        key, self.path = self.path.removeprefix("mediawiki/"), self.path.rpartition("/")[0]
        match key:
            case "page":
                self._finish()
            case "page/title":
                self.page.title = "".join(self.text)
            case "page/ns":
                self.page.namespace = "".join(self.text).strip()
            case "page/revision":
                self.counts.old_revisions += self.page.drop_older()
            case "page/revision/timestamp":
                self.page.revisions[-1].timestamp = "".join(self.text)
            case "page/revision/model":
                self.page.revisions[-1].model = "".join(self.text).strip()
            case "page/revision/text":
                self.page.revisions[-1].text = "".join(self.text)
            case "siteinfo/namespaces/namespace":
                self.local.add(self.key, "".join(self.text).strip())

    def _finish(self) -> None:
        """Takes the page that has ended, or counts why not."""
        page, revision = self.page, (self.page.revisions or [_Revision()])[0]
        namespace = page.namespace or self.local.key(page.title)
        self.pages[namespace] += 1
        if namespace != "0":
            self.counts.other_namespaces += 1
        elif revision.model not in WIKITEXT:
            self.counts.other_models += 1
        elif page.is_redirect or namespaces.is_redirect(revision.text):
            self.counts.redirects += 1
        elif not revision.text.strip():
            self.counts.empty_pages += 1
            self.stubs += revision.is_stub
        else:
            self.articles.append(self.local.in_english(revision.text))
