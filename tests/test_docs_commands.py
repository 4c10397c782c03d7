"""Each command line of the README and the docs is one that its command takes, with keys that its config has."""

import argparse
import functools
import itertools
import re
import shlex

from conftest import ROOT
import pytest

from bert_tpu.cli import completion, contents
from bert_tpu.core import command, config

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = r"(?:[A-Z_]+=\S+ +)*(?:\S*bert-tpu|python -m (?:bert_tpu|tools)\S*)"
PLACEHOLDER = re.compile("=[A-Z]+$")
MISSING = "the following arguments are required"


def code(page):
    """(code, True if it is a line of a block) of a page; a line that ends with a backslash has the next one too."""
    text = page.read_text().replace("\\\n", " ")
    yield from ((line.strip(), True) for line in re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE))
    yield from (
        (" ".join(span.split()), False)
        for span in re.findall(r"`([^`]+)`", re.sub("^    .*$", "", text, flags=re.MULTILINE))
    )


def command_lines(page):
    """(words from the program on, True if whole) of each command line of a page, without comments and pipes."""
    for line, is_block in code(page):
        for part in re.split(r" && | \|\| | [|;] ", line):
            if re.match(PROGRAMS + r"(?=\s|$)", part):
                words = [word for word in shlex.split(part, comments=True) if not re.match("[A-Z_]+=", word)]
                yield words, is_block and "..." not in part


def entry_and_words(words):
    """The command that a line starts, and its own words; None for bert-tpu and its own options."""
    if words[0] == "python":
        _, _, module, *rest = words
        if module != "bert_tpu":
            name = module.removeprefix("bert_tpu.").removeprefix("tools.").split(".")[-1]
            return contents.find(name), rest
        words = [module, *rest]
    return (contents.find(words[1]), words[2:]) if words[1:] and words[1][0] not in "-." else (None, [])


@functools.cache
def parser(entry):
    return completion.options_of(entry)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_command_lines_are_taken(page):
    faults = []
    for words, is_whole in command_lines(page):
        try:
            entry, own = entry_and_words(words)
            if entry is None:
                continue
            if "--help" in own:
                continue
            own = list(itertools.takewhile(lambda word: word not in ("--", "<", ">"), own))  # Beam's options, a file
            changes, rest = config.split_argv([word.strip("[]") for word in own if word.strip("[]") != "..."])
            parser(entry)._typed = rest
            args, unknown = argparse.ArgumentParser.parse_known_args(parser(entry), rest)
            assert not unknown, f"{unknown} unknown"
            if changes and getattr(args, "config", None):
                config.load_changed(args.config, [word for word in changes if not PLACEHOLDER.search(word)])
        except (command.UserError, AssertionError) as error:
            if not (re.search("invalid choice: '[A-Z]+'", str(error)) or (MISSING in str(error) and not is_whole)):
                faults.append(f"{shlex.join(words)}: {error}")
    assert not faults, "\n".join(faults)


def test_options_and_keys_in_the_text_exist():
    keys = {key for name in config.names() for key in _keys(name)}
    options = {option for entry in contents.ENTRIES for option in parser(entry)._option_string_actions}
    odd = []
    for page in PAGES:
        if page.stem == "pods":  # it has options of other programs
            continue
        for span, _ in code(page):
            if match := re.match(r"--config\.([\w.]+)", span):
                odd += [(page.stem, span)] if match[1] not in keys | {"KEY"} else []
            elif match := re.match(r"--[\w-]+", span):
                odd += [(page.stem, span)] if match[0] not in options else []
    assert not odd


def _keys(name):
    try:
        return [key for key, _ in _flat(config.load(name).to_dict())]
    except (command.UserError, TypeError):  # it needs a variant, or is a part of others
        return []


def _flat(tree, start=""):
    for key, value in tree.items():
        yield start + key, value
        if isinstance(value, dict):
            yield from _flat(value, f"{start}{key}.")
