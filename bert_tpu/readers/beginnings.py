"""Files of text in notations that begin in a known way: refused by name, with the way to their text."""

import os
import re

from bert_tpu.core import command

TEXT = "set --format text if it is meant as text"
SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")  # of datasets.save_to_disk
UNFINISHED = (".part", ".partial", ".crdownload", ".aria2")
FIELD = r"[A-Za-z][\w-]*:.*(?:\r?\n[ \t]+\S.*)*"  # of a mail's header
BEGINNINGS = (
    (r"\{\\rtf", "an RTF document", "save it as plain text"),
    (r"version https://git-lfs", "not the file but Git LFS's pointer to it", "fetch the file by git lfs pull"),
    (r"WARC/", "a web archive (WARC)", "give the archive's WET files, or extract its text, for example by trafilatura"),
    (r"%YAML", "YAML", "write its text as JSON lines"),
    (r"WEBVTT\b|\d+\r?\n\d\d:\d\d:\d\d[,.]\d{3} -->", "a file of subtitles", "extract their words"),
    (rf"From \S+ .*(\r?\n{FIELD})+\r?\n\r?\n", "a mailbox", "write each mail's text as a JSON line"),
    (
        rf"(?=({FIELD}\r?\n)*(?i:Message-ID|From):)(?=({FIELD}\r?\n)*(?i:Date|Subject):)({FIELD}\r?\n)+(\r?\n|$)",
        "a mail with its headers",
        "write the mails' texts as JSON lines, for example by Python's email and mailbox",
    ),
    (r"\[Script Info\]\r?\n", "a file of subtitles", "extract their words"),
    (r"(\[[a-z]+:.*\]\s*\n)*(\[\d+:\d\d[.:]\d+\].*\n){3}", "a file of lyrics with their times", "extract their words"),
    (r"((#.*)?\n)*(msgctxt .*\n)?msgid \"", "a catalogue of gettext", "extract its texts"),
    (
        r"(\s*%.*\n)*\s*\\(documentclass|chapter|section|begin|input)\b[*{[]",
        "LaTeX",
        "convert it by pandoc -f latex -t plain --wrap=none OLD -o NEW",
    ),
    (r".+\n- .*\|.*\n\s*\n.*\n=====+\r?\n", "a file of Kindle's clippings", "extract their words"),
    (
        r"window\.YTD\.\w+\.part\d+ *=",
        "JavaScript of an archive of X",
        "write its posts by sed '1s/^[^[]*//' OLD | jq -c '.[] | {text: .tweet.full_text}' > NEW",
    ),
    (r"-- (MySQL|MariaDB) dump|/\*M!999999", "an SQL dump", "give the dump of articles, pages-articles"),
    # The place of a stream, the number of a page and its title.
    (r"(\d+:\d+:[^\n]+\n){5}", "the index of a multistream dump", "leave it out"),
)


def refuse(text: str, path: str) -> None:
    """Raises UserError if a file is in such a notation, or was not fetched whole. text: its beginning."""
    if os.path.basename(path) in SAVED and text.startswith("{"):
        folder = os.path.dirname(path) or "."
        raise command.UserError(f"{path} describes a data set of `datasets`: give its files, '{folder}/**/*.arrow'")
    if os.fspath(path).endswith(UNFINISHED):
        raise command.UserError(f"{path} is an unfinished download by its name: fetch it whole, or {TEXT}")
    for beginning, kind, advice in BEGINNINGS:
        if re.match(beginning, text):
            raise command.UserError(f"{path} is {kind}: {advice}, or {TEXT}")
