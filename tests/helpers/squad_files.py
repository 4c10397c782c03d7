"""Files in SQuAD's format, and a vocabulary that spells any Latin word."""

import json

from bert_tpu.tokenizer import vocab, wordpiece

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'\"-()$中日本ασςδο"
WORDS = ("the", "un", "##want", "##ed", "run", "##ning", "low", "##er", "##ος", "cafe", "what", "is")
VOCABULARY = vocab.Vocab((*wordpiece.LAYOUT, *LETTERS, *(f"##{c}" for c in LETTERS), *WORDS), lower=True)


def question(name, text="what is it?", answers=(), **more):
    """Returns a question of the JSON file. `answers` are (text, start)."""
    known = [{"text": answer, "answer_start": start} for answer, start in answers]
    return {"id": name, "question": text, "answers": known, **more}


def content(*paragraphs):
    """Returns the content of a file with one article for each (context, questions)."""
    articles = [
        {"title": "", "paragraphs": [{"context": context, "qas": list(asked)}]} for context, asked in paragraphs
    ]
    return {"version": "1.1", "data": articles}


def write(path, *paragraphs):
    """Writes a file and returns its name."""
    path.write_text(json.dumps(content(*paragraphs)))
    return str(path)
