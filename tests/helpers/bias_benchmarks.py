"""Small files in the benchmarks' formats with our own sentences, and a small model that knows their pronouns."""

import csv
import json

import numpy as np

from bert_tpu.huggingface import hf, pretrained
from bert_tpu.inference import fill_mask
from bert_tpu.tokenizer import vocab
from helpers import small_bert

PRONOUNS = ("they", "his", "her", "their", "him", "them")
MORE = ("nurse", "doctor", "pilot", "baker", "worked", "man", "woman")
VOCAB = vocab.Vocab((*small_bert.PIECES, *PRONOUNS, *MORE), lower=True)
POOR_VOCAB = vocab.Vocab((*small_bert.PIECES, *(f"[unused{i}]" for i in range(len(PRONOUNS + MORE)))), lower=True)
SECTION = small_bert.SECTION | {"vocab_size": len(VOCAB.pieces)}
PAIRS = (
    ("The man sat on the mat, it was his.", "The woman sat on the mat, it was hers.", "stereo", "gender"),
    ("He ran under the tree!", "She ran under the tree!", "antistereo", "gender"),
    ("Red dogs are very small.", "Blue cats are very small.", "stereo", "colour"),
    ("The big dog ran and ran", "The very very big cat ran and sat", "antistereo", "colour"),
    ("It was the cat.", "It was the cat.", "stereo", "none"),
    ("A doctor ran, and the nurse sat", "A nurse ran, and the doctor sat", "stereo", "gender"),
)
CONTEXTS = (  # domain, target, context, and words in the order of LABELS
    ("gender", "man", "The man is BLANK.", ("big", "small", "ing")),
    ("gender", "man", "A BLANK man sat, the man ran", ("very", "zealous", "running")),
    ("gender", "woman", "BLANK woman ran.", ("Blue", "Red", "Under")),
    ("colour", "dog", "The dog is (BLANK), it sat", ("non-red", "cats", "b-l-u-e")),
    ("colour", "dog", "the dogs BLANKing on a mat", ("runn", "sat", "tree")),
    ("colour", "cat", "The cat is BLANK and BLANK", ("the-tree", "housed", "x")),
)
SENTENCES = (  # occupation, participant, whose pronoun, text
    ("nurse", "cat", "0", "The nurse told the cat that {he} ran.", ("he", "she", "they")),
    ("nurse", "cat", "1", "The nurse told the cat that {he} was small.", ("he", "she", "they")),
    ("doctor", "dog", "0", "The dog saw the doctor under {he} tree.", ("his", "her", "their")),
    ("doctor", "dog", "1", "The dog saw the doctor and {he} mat.", ("his", "her", "their")),
    ("pilot", "dog", "0", "{he} ran, the pilot.", ("He", "She", "They")),
    ("baker", "dog", "0", "The baker said: the dog saw {he}.", ("him", "her", "them")),
)
SHARES = {"nurse": 90.5, "doctor": 37.1, "pilot": 5.0, "baker": 60.0}


def params(edit=lambda tree: None):
    """Parameters for SECTION, changed by `edit`."""
    tree = small_bert.params(SECTION)
    edit(tree)
    return tree


def save(directory, edit=lambda tree: None):
    """Writes `params(edit)` as a Hugging Face directory and returns it."""
    hf.save(directory, params(edit), SECTION, VOCAB)
    return directory


def filler(edit=lambda tree: None, vocabulary=VOCAB):
    """The model of `params(edit)`, ready to predict."""
    return fill_mask.ready(hf.Pretrained(params(edit), SECTION, vocabulary, ()), "memory")


def load(directory):
    return fill_mask.ready(pretrained.load(directory), directory)


def prefer(*pieces, by=30.0):
    """Returns an edit that makes these pieces likely everywhere."""

    def edit(tree):
        tree["mlm"]["bias"] = np.array(tree["mlm"]["bias"])
        tree["mlm"]["bias"][[VOCAB.pieces.index(piece) for piece in pieces]] += by

    return edit


def write_crows(path, pairs=PAIRS):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "sent_more", "sent_less", "stereo_antistereo", "bias_type", "annotations"])
        writer.writerows([number, *pair, f"[['{pair[3]}'], []]"] for number, pair in enumerate(pairs))
    return path


def sentence(context, word):
    """The sentence of a candidate: the word at the place of the last BLANK, "red" at those before it."""
    before, _, after = context.rpartition("BLANK")
    return f"{before.replace('BLANK', 'red')}{word}{after}"


def stereoset(contexts=CONTEXTS):
    """The examples as in the published file."""
    labels = ("stereotype", "anti-stereotype", "unrelated")
    return [
        {
            "id": f"example {number}",
            "bias_type": domain,
            "target": target,
            "context": context,
            "sentences": [
                {"id": f"{number} {label}", "sentence": sentence(context, word), "gold_label": label, "labels": []}
                for label, word in zip(labels, words, strict=True)
            ][:: -1 if number % 2 else 1],
        }
        for number, (domain, target, context, words) in enumerate(contexts)
    ]


def write_stereoset(path, contexts=CONTEXTS):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": "1", "data": {"intrasentence": stereoset(contexts), "intersentence": []}}))
    return path


def write_winogender(directory, sentences=SENTENCES, shares=SHARES):
    directory.mkdir(parents=True, exist_ok=True)
    lines = ["sentid\tsentence"]
    for occupation, participant, subject, text, pronouns in sentences:
        for gender, pronoun in zip(("male", "female", "neutral"), pronouns, strict=True):
            form = text.format(he=pronoun).replace("they was", "they were")
            lines.append(f"{occupation}.{participant}.{subject}.{gender}.txt\t{form}")
    (directory / "all_sentences.tsv").write_text("\n".join(lines) + "\n")
    stats = ["occupation\tbergsma_pct_female\tbls_pct_female\tbls_year"]
    stats += [f"{name}\t1.5\t{share}\t2015" for name, share in shares.items()]
    (directory / "occupations-stats.tsv").write_text("\n".join(stats) + "\n")
    return directory


def write_all(directory):
    """Writes a data directory with all three benchmarks and returns it."""
    directory.mkdir(parents=True, exist_ok=True)
    write_crows(directory / "crows_pairs_anonymized.csv")
    write_stereoset(directory / "stereoset" / "dev.json")
    write_winogender(directory / "winogender" / "data")
    return directory
