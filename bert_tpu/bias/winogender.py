"""Winogender's sentences, for a masked language model: which pronoun does it expect of an occupation?

Rudinger et al. 2018 (arXiv:1804.09301) made them for coreference; here the pronoun is masked, and he, she and they (or
their other cases) are each asked for in the sentence that the authors wrote with it. The log odds of a sentence are
log p(female) - log p(male), in nats: above 0 the model expects a woman. Its name in the file says whom the pronoun
means: 0 the occupation, 1 the other participant.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from bert_tpu.bias import bootstrap
from bert_tpu.core import command
from bert_tpu.inference import fill_mask, likelihood
from bert_tpu.readers import tabular

FILE, SHARES = "all_sentences.tsv", "occupations-stats.tsv"
GENDERS = ("male", "female", "neutral")
SUBJECTS = ("0", "1")  # of the pronoun: the occupation, the participant
MASK = "[MASK]"


class Sentence(NamedTuple):
    """A sentence in its three forms, the pronoun masked, and what stood there."""

    occupation: str
    subject: str  # of SUBJECTS
    texts: tuple[str, str, str]  # of GENDERS; where the verb follows they, the third differs
    pronouns: tuple[str, str, str]


class Result(NamedTuple):
    """Intervals are those of occupations drawn again; None where the vocabulary or the files leave nothing."""

    log_odds: bootstrap.Estimate | None  # mean over sentences
    of_occupation: bootstrap.Estimate | None  # over those whose pronoun is the occupation's
    of_participant: bootstrap.Estimate | None
    correlation: bootstrap.Estimate | None  # Pearson's, of `by_occupation` with `women_percent`
    probability: dict[str, float]  # by gender, mean over sentences
    by_occupation: dict[str, float]  # mean log odds of the sentences whose pronoun is the occupation's
    women_percent: dict[str, float]  # by occupation, of the Bureau of Labor Statistics
    left_out: int  # sentences with a pronoun that is not one piece of the vocabulary


def read(path: str | Path) -> list[Sentence]:
    """The sentences of all_sentences.tsv; UserError for a file of another form."""
    found = tabular.read(path, ("sentid", "sentence")).whole()
    forms: dict[tuple[str, ...], dict[str, str]] = {}
    for line, name, text in zip(found.lines, found.column("sentid"), found.column("sentence"), strict=True):
        parts = name.split(".")
        if len(parts) != 5 or parts[2] not in SUBJECTS or parts[3] not in GENDERS:
            raise command.UserError(
                f"{path} line {line}: {name!r} is not OCCUPATION.PARTICIPANT.0-or-1.GENDER.txt; fetch the file again"
            )
        forms.setdefault(tuple(parts[:3]), {})[parts[3]] = text
    return [_sentence(key, of, path) for key, of in forms.items()]


def _sentence(key, forms, path):
    name = ".".join(key)
    if missing := [gender for gender in GENDERS if gender not in forms]:
        raise command.UserError(f"{path} has no {missing[0]} form of {name}; fetch the file again")
    words = [forms[gender].split(" ") for gender in GENDERS]
    male, female, neutral = words
    places = [i for i, (he, she) in enumerate(zip(male, female, strict=False)) if he != she]
    if len(places) != 1 or len(male) != len(female) or len(neutral) <= places[0]:
        raise command.UserError(f"{path}: the forms of {name} differ in more than a pronoun; fetch the file again")
    pronouns = [each[places[0]].strip(".,;:!?") for each in words]
    texts = [_with_mask(each, places[0], pronoun) for each, pronoun in zip(words, pronouns, strict=True)]
    return Sentence(key[0], key[2], tuple(texts), tuple(pronouns))


def _with_mask(words, place, pronoun):
    return " ".join([*words[:place], words[place].replace(pronoun, MASK, 1), *words[place + 1 :]])


def read_shares(path: str | Path) -> dict[str, float]:
    """Occupation -> per cent of women in it, of the column bls_pct_female of occupations-stats.tsv."""
    found = tabular.read(path, ("occupation", "bls_pct_female")).whole()
    shares = {}
    for line, name, share in zip(found.lines, found.column("occupation"), found.column("bls_pct_female"), strict=True):
        try:
            shares[name] = float(share)
        except ValueError:
            shares[name] = np.nan
        if not 0 <= shares[name] <= 100:
            raise command.UserError(f"{path} line {line}: {share!r} is no share of women in per cent; mend it")
    return shares


def score(filler: fill_mask.Model, sentences: list[Sentence], shares: dict[str, float], name="winogender") -> Result:
    """What the model says of the sentences whose pronouns are pieces of its vocabulary."""
    known = [each for each in sentences if all(_piece(filler, pronoun) is not None for pronoun in each.pronouns)]
    questions = []
    for sentence in known:
        for text, pronoun in zip(sentence.texts, sentence.pronouns, strict=True):
            ids = likelihood.row(filler, text)
            questions.append(likelihood.Question(ids, ids.index(filler.ids.mask), _piece(filler, pronoun)))
    said = likelihood.log_probs(filler, questions, name).astype(np.float64).reshape(-1, len(GENDERS))
    return judge(known, said, shares)._replace(left_out=len(sentences) - len(known))


def _piece(filler, word):
    ids = filler.tokenizer.encode(word, add_special_tokens=False).ids
    return ids[0] if len(ids) == 1 and ids[0] != filler.ids.unk else None


def judge(sentences: list[Sentence], log_probs_NG: np.ndarray, shares: dict[str, float]) -> Result:
    """The scores, of the log-probabilities of each sentence's pronouns [sentences, GENDERS]."""
    odds_N = log_probs_NG[:, 1] - log_probs_NG[:, 0]
    of_subject = {subject: np.array([each.subject == subject for each in sentences], bool) for subject in SUBJECTS}
    names_N = np.array([each.occupation for each in sentences])
    everything = np.ones(len(sentences), bool)
    means = [_mean(names_N[chosen], odds_N[chosen]) for chosen in (everything, *of_subject.values())]
    chosen = of_subject["0"]
    by_occupation = {str(one): float(odds_N[chosen & (names_N == one)].mean()) for one in np.unique(names_N[chosen])}
    both = [one for one in by_occupation if one in shares]
    correlation = bootstrap.pearson([shares[one] for one in both], [by_occupation[one] for one in both])
    chances = np.exp(log_probs_NG).mean(0) if len(sentences) else np.zeros(0)
    probability = {gender: float(chance) for gender, chance in zip(GENDERS, chances, strict=False)}
    return Result(*means, correlation, probability, by_occupation, {one: shares[one] for one in both}, 0)


def _mean(names_N, values_N):
    """Over the sentences; occupations are what is drawn, since one's sentences say much the same."""
    names = np.unique(names_N)
    each = [values_N[names_N == one] for one in names]
    return bootstrap.ratio([part.sum() for part in each], [len(part) for part in each])
