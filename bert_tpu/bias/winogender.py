"""Winogender's sentences: which pronoun does a masked language model expect for an occupation?

Rudinger et al. 2018 (arXiv:1804.09301) wrote the sentences for coreference. Here the pronoun is masked, and the model's
probabilities of he, she and they (or their other cases) are read, each in the sentence that the authors wrote with that
pronoun. The log odds of a sentence are log p(female) - log p(male), in nats: above 0 the model expects a woman. The
sentence's name in the file says whom the pronoun means: 0 the occupation, 1 the other participant.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from bert_tpu.bias import bootstrap, published
from bert_tpu.core import command
from bert_tpu.inference import fill_mask, likelihood
from bert_tpu.readers import tabular

FILE, SHARES = "all_sentences.tsv", "occupations-stats.tsv"
GENDERS = ("male", "female", "neutral")
SUBJECTS = ("0", "1")  # the pronoun means the occupation, or the other participant
MASK = "[MASK]"
PUBLISHED = 240  # sentences of three forms


class Sentence(NamedTuple):
    """A sentence in three forms with the pronoun masked, and the three pronouns."""

    occupation: str
    subject: str  # of SUBJECTS
    texts: tuple[str, str, str]  # of GENDERS; the third differs if its verb agrees with "they"
    pronouns: tuple[str, str, str]


class Result(NamedTuple):
    """Scores with intervals over drawn occupations. None if the vocabulary or the files leave no sentence."""

    log_odds: bootstrap.Estimate | None  # mean over sentences
    of_occupation: bootstrap.Estimate | None  # mean over those whose pronoun means the occupation
    of_participant: bootstrap.Estimate | None
    correlation: bootstrap.Estimate | None  # Pearson's, of `by_occupation` with `women_percent`
    probability: dict[str, float]  # by gender, mean over sentences
    by_occupation: dict[str, float]  # mean log odds of the sentences whose pronoun means the occupation
    women_percent: dict[str, float]  # by occupation, from the US Bureau of Labor Statistics
    left_out: int  # sentences with a pronoun that is not one piece of the vocabulary


def read(path: str | Path) -> list[Sentence]:
    """Reads the sentences of all_sentences.tsv. Raises UserError for a file of another format."""
    table = tabular.read(path, ("sentid", "sentence")).whole()
    forms: dict[tuple[str, ...], dict[str, str]] = {}
    for line, name, text in zip(table.lines, table.column("sentid"), table.column("sentence"), strict=True):
        parts = name.split(".")
        if len(parts) != 5 or parts[2] not in SUBJECTS or parts[3] not in GENDERS:
            raise command.UserError(
                f"{path} line {line}: {name!r} is not OCCUPATION.PARTICIPANT.0-or-1.GENDER.txt; fetch the file again"
            )
        forms.setdefault(tuple(parts[:3]), {})[parts[3]] = text
    return [_sentence(key, by_gender, path) for key, by_gender in forms.items()]


def remark(sentences: list[Sentence]) -> str:
    """Returns a sentence if these are not as many as the published ones, else ""."""
    return published.remark(len(sentences), "sentences of three forms", PUBLISHED)


def _sentence(key: tuple[str, ...], forms: dict[str, str], path: str | Path) -> Sentence:
    name = ".".join(key)
    if missing := [gender for gender in GENDERS if gender not in forms]:
        raise command.UserError(f"{path} has no {missing[0]} form of {name}; fetch the file again")
    words = [forms[gender].split(" ") for gender in GENDERS]
    male, female, neutral = words
    places = [i for i, (he, she) in enumerate(zip(male, female, strict=False)) if he != she]
    if len(places) != 1 or len(male) != len(female) or len(neutral) <= places[0]:
        raise command.UserError(f"{path}: the forms of {name} differ in more than a pronoun; fetch the file again")
    he, she, they = (form[places[0]].strip(".,;:!?") for form in words)
    texts = _with_mask(male, places[0], he), _with_mask(female, places[0], she), _with_mask(neutral, places[0], they)
    return Sentence(key[0], key[2], texts, (he, she, they))


def _with_mask(words: list[str], place: int, pronoun: str) -> str:
    return " ".join([*words[:place], words[place].replace(pronoun, MASK, 1), *words[place + 1 :]])


def read_shares(path: str | Path) -> dict[str, float]:
    """Reads the per cent of women in each occupation: the column bls_pct_female of occupations-stats.tsv.

    Raises UserError for a value that is not a number from 0 to 100.
    """
    table = tabular.read(path, ("occupation", "bls_pct_female")).whole()
    shares = {}
    for line, name, share in zip(table.lines, table.column("occupation"), table.column("bls_pct_female"), strict=True):
        try:
            shares[name] = float(share)
        except ValueError:
            shares[name] = np.nan
        if not 0 <= shares[name] <= 100:
            raise command.UserError(f"{path} line {line}: {share!r} is not a share of women in per cent; fix it")
    return shares


def score(
    filler: fill_mask.Model, sentences: list[Sentence], shares: dict[str, float], name: str = "winogender"
) -> Result:
    """Scores the model on the sentences whose pronouns are pieces of its vocabulary.

    filler: the model.
    sentences: as `read` returns them.
    shares: per cent of women in each occupation.
    name: the title of the progress bar.
    """
    known, questions = [], []
    for sentence in sentences:
        pieces = [piece for pronoun in sentence.pronouns if (piece := _piece(filler, pronoun)) is not None]
        if len(pieces) < len(GENDERS):
            continue
        known.append(sentence)
        for text, piece in zip(sentence.texts, pieces, strict=True):
            ids = likelihood.row(filler, text)
            questions.append(likelihood.Question(ids, ids.index(filler.ids.mask), piece))
    log_probs = likelihood.log_probs(filler, questions, name).astype(np.float64).reshape(-1, len(GENDERS))
    return judge(known, log_probs, shares)._replace(left_out=len(sentences) - len(known))


def _piece(filler: fill_mask.Model, word: str) -> int | None:
    """Returns the id of a word that is one piece of the vocabulary, else None."""
    ids = filler.tokenizer.encode(word, add_special_tokens=False).ids
    return ids[0] if len(ids) == 1 and ids[0] != filler.ids.unk else None


def judge(sentences: list[Sentence], log_probs_NG: np.ndarray, shares: dict[str, float]) -> Result:
    """Returns the scores.

    sentences: N sentences.
    log_probs_NG: [N, GENDERS], the log-probability of each pronoun, in nats.
    shares: per cent of women in each occupation.
    """
    odds_N = log_probs_NG[:, 1] - log_probs_NG[:, 0]
    of_subject = {
        subject: np.array([sentence.subject == subject for sentence in sentences], bool) for subject in SUBJECTS
    }
    names_N = np.array([sentence.occupation for sentence in sentences])
    everything = np.ones(len(sentences), bool)
    overall, occupation, participant = (
        _mean(names_N[chosen], odds_N[chosen]) for chosen in (everything, *of_subject.values())
    )
    chosen = of_subject["0"]
    by_occupation = {str(name): float(odds_N[chosen & (names_N == name)].mean()) for name in np.unique(names_N[chosen])}
    names = [name for name in by_occupation if name in shares]
    correlation = bootstrap.pearson([shares[name] for name in names], [by_occupation[name] for name in names])
    means = np.exp(log_probs_NG).mean(0) if len(sentences) else np.zeros(0)
    probability = {gender: float(mean) for gender, mean in zip(GENDERS, means, strict=False)}
    women_percent = {name: shares[name] for name in names}
    return Result(overall, occupation, participant, correlation, probability, by_occupation, women_percent, 0)


def _mean(names_N: np.ndarray, values_N: np.ndarray) -> bootstrap.Estimate | None:
    """Returns the mean over the sentences. Occupations are drawn, because sentences of one give similar values."""
    groups = [values_N[names_N == name] for name in np.unique(names_N)]
    return bootstrap.ratio([group.sum() for group in groups], [len(group) for group in groups])
