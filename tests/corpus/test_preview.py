"""A look at the input before the work names what would be lost, and shows documents as they are trained on."""

import gzip
import json
import random
import re
import textwrap

from helpers import warm_processes
from helpers.prepare_runs import VOCABULARY, contents, document, words
import pytest

from bert_tpu.core import command
from bert_tpu.corpus import prepare, preview, sentences, worker, wrapping
from bert_tpu.readers import sources, suspicions
from bert_tpu.tokenizer import encoding, vocab

SENTENCES = [sentence for seed in range(40) for sentence in sentences.split(document(seed))]
PARAGRAPHS = [" ".join(SENTENCES[i : i + 5]) for i in range(0, 300, 5)]
WRAPPED = [textwrap.fill(paragraph, 66) for paragraph in PARAGRAPHS]


def check(tmp_path, content, name="text.txt", **options):
    """The warnings about one file."""
    (tmp_path / name).write_text(content)
    return looked_at(sources.find([str(tmp_path / name)]), **options)


def looked_at(files, **options):
    """The warnings about files, but for the one about [UNK]: the vocabulary of these tests is small."""
    encoder = encoding.Encoder(VOCABULARY)
    return [line for line in preview.check(files, worker.Options(**options), encoder) if "[UNK]" not in line]


def test_a_blank_line_after_each_sentence_is_named(tmp_path):
    [warning] = check(tmp_path, "\n\n".join(SENTENCES))
    total = f"{len(SENTENCES):,}"
    assert warning.startswith(f"{total} of the first {total} documents have one sentence")
    assert "a blank line" in warning
    assert "--config mlm" in warning
    assert check(tmp_path, "\n\n".join(map(document, range(60)))) == []


def test_short_records_of_any_kind_are_named(tmp_path):
    titles = "\n".join(json.dumps({"title": line}) for line in SENTENCES)
    [warning] = check(tmp_path, titles, "titles.jsonl", column="title")
    assert "have one sentence" in warning


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_text_without_blank_lines_is_refused_before_the_work(tmp_path, monkeypatch, name):
    monkeypatch.setattr(sources, "DOCUMENT_CHARS", 2000)  # as if the file were larger than this
    for lines in (SENTENCES[:9], SENTENCES):
        content = "\n".join(lines).encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        files = sources.find([str(tmp_path / name)])
        with pytest.raises(command.UserError, match=rf"{name} has no blank line .* blank line between documents .* --"):
            looked_at(files)
        assert looked_at(files, format="file") == []


def test_many_files_of_one_document_each_are_fine_unless_one_is_very_large(tmp_path, monkeypatch):
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text(document(i))
    files = sources.find([str(tmp_path / "*.txt")])
    assert looked_at(files) == []
    monkeypatch.setattr(sources, "DOCUMENT_CHARS", 300)
    assert looked_at(files) == []
    monkeypatch.setattr(preview, "ONE_DOCUMENT", 500)
    with pytest.raises(command.UserError, match=r"0\.txt has no blank line"):
        looked_at(files)


def test_a_first_document_that_is_long_is_no_reason_to_refuse(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "DOCUMENT_CHARS", 2000)
    long = "\n".join(document(i) for i in range(5))
    assert check(tmp_path, "\n\n".join([long, *map(document, range(10))])) == []


def test_a_wrapped_book_whose_paragraphs_count_as_documents_is_named(tmp_path):
    [warning] = check(tmp_path, "\n\n".join(WRAPPED))
    assert "text.txt are wrapped" in warning
    assert warning.endswith("give --format file")
    assert check(tmp_path, "\n\n".join(WRAPPED), format="file") == []


def test_documents_of_two_equal_lines_are_not_wrapped(tmp_path):
    syllabics = "\n\n".join(f"ᐊᓂᔑᓈᐯᒧᐎᓐ ᓂᑖᔮᓐ ᒥᓇᐙ ᓂᑭᑫᓐᑕᒻ ᐃᓄᒃᑎᑐᑦ {i:02} ᐅᖃᐅᓯᖅ\nᐅᓪᓗᒥ ᓯᓚ ᐱᐅᔪᖅ" for i in range(60))
    assert wrapping.join(syllabics) is not syllabics
    assert not any("wrapped" in warning for warning in check(tmp_path, syllabics))


def test_documents_of_one_line_of_about_one_length_are_not_wrapped():
    thai = [f"บ้าน{i:02}หลังเล็กตั้งอยู่ริมแม่น้ำและไม่มีใครอาศัยอยู่มานานหลายปีฝนตก" for i in range(30)]
    assert not wrapping.are_paragraphs(thai)


def test_ligatures_are_named_unless_they_are_resolved(tmp_path):
    text = "\n\n".join(f"The ﬁrst ofﬁcial meeting {i}.\nIt was ﬂat." for i in range(6))
    [warning] = check(tmp_path, text)
    assert warning.startswith("6 of the first 6 documents have ligatures such as ﬁ")
    assert check(tmp_path, text, normal_form="NFKC") == []


def test_a_book_with_a_paragraph_a_line_whose_paragraphs_count_as_documents_is_named(tmp_path):
    chapters = [f"Chapter {i}\n\n" + "\n\n".join(PARAGRAPHS[i::5]) for i in range(5)]
    [warning] = check(tmp_path, "\n\n".join(chapters))
    assert "text.txt are one line of few sentences" in warning
    assert "give --format file" in warning
    assert "<|endoftext|>" in warning
    assert check(tmp_path, "\n\n".join(chapters), format="file") == []
    assert check(tmp_path, "\n<|endoftext|>\n".join(chapters)) == []
    chinese = "\n\n".join(f"第{i}章 回家\n\n　　他看见了。没有人帮忙。为什么？" for i in range(20))
    assert any("one line of few sentences" in warning for warning in check(tmp_path, chinese))
    assert check(tmp_path, "\n\n".join(" ".join(SENTENCES[i : i + 9]) for i in range(0, 270, 9))) == []  # long lines


def test_an_empty_file_is_neither_looked_at_nor_drawn(tmp_path):
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / "part-0").write_text("\n\n".join(SENTENCES))
    assert "part-0, document" in sample(tmp_path, ["_SUCCESS", "part-0"], 1)
    (tmp_path / "part-0").unlink()
    for i in range(9):
        (tmp_path / f"a{i}").write_text("" if i in range(0, 9, 3) else "\n\n".join(SENTENCES))
    assert "have one sentence" in looked_at(sources.find([str(tmp_path / "a*")]))[0]


def test_letters_that_are_spelled_are_named_and_have_no_language(tmp_path):
    russian = json.dumps("Старый корабль затонул. Никто не помог, и он ушёл домой.")[1:-1]
    warnings = check(tmp_path, "\n\n".join(f"{russian}\n{i}" for i in range(6)))
    assert [warning.split(": ")[0] for warning in warnings] == [
        "6 of the first 6 documents have \\u0421 or the like for letters"
    ]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda text: text.replace(" ", " @-@ ", 1), "tokenized"),
        (lambda text: "-LRB- A note. -RRB- " + text, "tokenized"),
        (lambda text: re.sub(r"(\w{3})(\w+)", r"\1@@ \2", text), "tokenized"),
        (lambda text: re.sub(r"(\w{3})(\w+)", r"\1 ##\2", text), "tokenized"),
        (lambda text: "▁" + text.replace(" ", " ▁"), "tokenized"),
        (lambda text: re.sub(r"(\w+)", r"\1/at", text), "tagged"),
        (lambda text: re.sub(r"(\w+)", r"\1_NNP", text), "tagged"),
        (lambda text: "(S " + re.sub(r"(\w+)", r"(NP-SBJ (NN \1))", text) + ")", "tagged"),
        (lambda text: text + " The tokenizer writes ##ing and hel@@ lo, and/or _x_y." * 2 + " Yes." * 200, ""),
        (lambda text: text + " See https://a.b/c, TCP/IP, snake_case, 3/4, a/b (IBM Corp) (I am).", ""),
    ],
)
def test_text_made_for_another_program_is_named(tmp_path, change, kind):
    texts = [change(" ".join(SENTENCES[i : i + 9])) for i in range(0, 90, 9)]
    assert [suspicions.notations(text) for text in texts] == [{kind} if kind else set()] * len(texts)
    warnings = " ".join(check(tmp_path, "\n\n".join(texts)))
    named = [name for name in ("tokenized", "tagged") if preview.ODD[name][-1].split("] ")[1] in warnings]
    assert named == [kind] * bool(kind)


def test_words_that_were_lost_before_are_named(tmp_path):
    assert any("have <unk> in place of words" in warning for warning in check(tmp_path, "A <unk> sank.\n\n" * 6))


def test_a_word_that_no_vocabulary_has_is_no_reason_for_another_vocabulary(tmp_path):
    (tmp_path / "text.txt").write_text(f"Brank lamp.\n{'QUJD' * 30000}\n\n{document(0)}")
    files = sources.find([str(tmp_path / "text.txt")])
    letters = {letter for letter in document(0) if not letter.isspace()}
    pieces = tuple(dict.fromkeys((*VOCABULARY.pieces, *letters, *(f"##{letter}" for letter in letters))))
    assert preview.check(files, worker.Options(), encoding.Encoder(vocab.Vocab(pieces, False))) == []


def wiki(text, count=20):
    """A dump of `count` equal pages."""
    page = f"<page><title>T</title><revision><text>{text}</text></revision></page>"
    return f"<mediawiki>{page * count}</mediawiki>"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (
            "A writer.\n" + "* A quotation of some words.\n" * 20,
            "only 1.5% of the characters of {} are prose, because lists",
        ),
        ("# A meaning of some words.\n" * 20, "only 0.0% of the characters of {} are prose, because lists"),
        (
            "{{header}}\n&lt;pages index='A.djvu' from=1 to=9 /&gt;",
            "100% of the articles of {} take their text from other",
        ),
        ("{{#lst:A|part}}\n{{ #Abschnitt:A|Teil}}", "100% of the articles of {} take their text from other"),
        ("{{:Another page}} {{#if:a|b}}", "100% of the articles of {} take their text from other"),
        ("{{header}}\n" + "Words of prose. " * 9 + "&lt;ref&gt;note&lt;/ref&gt; {{#if:a|b}} {{#section}}", None),
    ],
)
def test_a_wiki_whose_text_is_not_in_its_prose_is_named(tmp_path, page, message):
    warnings = check(tmp_path, wiki(page), "wiki.xml")
    named = [line for line in warnings if "characters of" in line or "articles of" in line]
    assert len(named) == (message is not None)
    assert message is None or named[0].startswith(message.format(tmp_path / "wiki.xml"))


def test_text_whose_sentences_nothing_splits_is_named(tmp_path):
    draw = random.Random(0)
    lao = ["".join(draw.choices("ກຂຄງຈສຊຍດຕ ", k=1200)) for _ in range(2 * preview.FEW)]
    warnings = check(tmp_path, "\n\n".join(f"{line}\n{line}" for line in lao))
    assert any("more than 1,000 characters" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: f"<p>{text}</p>", "have HTML tags"),
        (lambda text: text.replace("\n", "\\n"), "have \\n in two characters"),
    ],
)
def test_markup_and_escapes_in_the_text_are_named(tmp_path, change, message):
    texts = [json.dumps({"text": change(document(i))}) for i in range(6)]
    [warning] = check(tmp_path, "\n".join(texts), "text.jsonl")
    assert message in warning


def test_a_vocabulary_of_another_language_is_named(tmp_path):
    (tmp_path / "text.txt").write_text("旧船沉没了。他看见了。\n\n没有人帮忙。为什么？")
    files = sources.find([str(tmp_path / "text.txt")])
    [warning] = preview.check(files, worker.Options(), encoding.Encoder(VOCABULARY))
    assert warning.startswith("100% of the first 21 tokens are [UNK]: train a vocabulary")


def test_a_language_with_rules_of_its_own_is_named(tmp_path):
    german = "Das kleine Haus stand am Fluss, und seit Jahren hatte niemand darin gewohnt. Der Regen fiel.\n"
    text = "\n".join(german * 3 for _ in range(3))
    [warning] = check(tmp_path, text)
    assert "language de: --language de leaves out documents in other languages, and splits" in warning
    assert check(tmp_path, text, language="de") == []
    french = "Elle a acheté une petite maison près de la mer et y habite avec sa famille depuis plus de dix ans.\n"
    [warning] = check(tmp_path, "\n".join(french * 3 for _ in range(3)))
    assert "splits" not in warning  # nupunkt's English model splits it best
    english = "The little house stood by the river, and nobody had lived in it for years. Rain fell on the roof.\n"
    assert check(tmp_path, "\n".join(english * 3 for _ in range(3))) == []


@pytest.mark.parametrize(
    "line",
    [
        "เด็กๆ ไปโรงเรียนตอนเช้า พวกเขากลับบ้านตอนเย็น",
        "राम घर गया। उसने खाना खाया।",
        "彼女はだれですか。",
        "Ông ấy đến Hà Nội năm ngoái và mua một ngôi nhà.",
        "Akşam yağmur başladı, çocuklar eve döndü ve kitap okudu.",
        "آج موسم اچھا ہے اور ہم پارک جا رہے ہیں۔ ہم گھر واپس آئیں گے۔",
    ],
)
def test_an_uncased_vocabulary_that_removes_vowels_is_named(tmp_path, line):
    (tmp_path / "text.txt").write_text("\n\n".join([f"{line}\n{line}"] * 3))
    files, pieces = sources.find([str(tmp_path / "text.txt")]), tuple(dict.fromkeys((*VOCABULARY.pieces, *line)))
    for lower in (True, False):
        encoder = encoding.Encoder(vocab.Vocab(pieces, lower))
        named = [
            warning for warning in preview.check(files, worker.Options(), encoder) if "signs that change" in warning
        ]
        assert len(named) == lower


def test_accents_that_uncased_models_do_without_are_no_fault(tmp_path):
    french = "Elle a acheté une petite maison près de la mer et y habite avec sa famille depuis plus de dix ans.\n"
    spanish = "El año pasado compró una casa en el campo y vive con su familia desde entonces, muy lejos del mar.\n"
    english = "The naïve café owner had a résumé, and nobody read it during the long and rainy week of March.\n"
    for line in (french, spanish, english):
        (tmp_path / "text.txt").write_text("\n".join([line * 3] * 3))
        files = sources.find([str(tmp_path / "text.txt")])
        warnings = preview.check(files, worker.Options(), encoding.Encoder(vocab.Vocab(VOCABULARY.pieces, True)))
        assert not any("signs that change" in warning for warning in warnings)


def test_training_a_vocabulary_that_removes_vowels_is_named(tmp_path):
    (tmp_path / "text.txt").write_text("เด็กๆ ไปโรงเรียนตอนเช้า พวกเขากลับบ้านตอนเย็น\n" * 20)
    argv = ["--input", tmp_path / "text.txt", "--vocab_size", "200", "--out"]
    uncased = warm_processes.run("tools.train_tokenizer", [*argv, tmp_path / "uncased"]).stderr
    assert "warning: the vocabulary removes accents, and so 1" in uncased
    assert "warning" not in warm_processes.run("tools.train_tokenizer", [*argv, tmp_path / "cased", "--cased"]).stderr


def test_training_a_vocabulary_on_a_wiki_whose_text_is_not_in_its_prose_is_named(tmp_path):
    (tmp_path / "wiki.xml").write_text(wiki("A writer.\n" + "* A quotation of some words.\n" * 20))
    argv = ["--input", tmp_path / "wiki.xml", "--vocab_size", "130", "--out", tmp_path / "out"]
    assert "warning: only 1.5% of the characters" in warm_processes.run("tools.train_tokenizer", argv).stderr


def sample(tmp_path, inputs, count, **options):
    vocab.save(VOCABULARY, tmp_path / "tokenizer")
    return "\n".join(
        prepare.sample([str(tmp_path / name) for name in inputs], tmp_path / "tokenizer", count, **options)
    )


def test_a_sample_shows_documents_of_each_kind_as_a_corpus_would_have_them(tmp_path):
    book = f"Head.\n*** START OF THE PROJECT GUTENBERG EBOOK A ***\n{WRAPPED[0]}\n☃ brank.\n"
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text(book)
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps({"text": document(i)}) for i in range(100)))
    page = "<page><title>X</title><ns>0</ns><revision><text>'''Brank''' stinkt [[Stash|lamp]].</text></revision></page>"
    dump = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">' + page + "</mediawiki>"
    (tmp_path / "d.xml").write_text(dump)
    vocab.save(VOCABULARY, tmp_path / "tokenizer")
    before = sorted(tmp_path.rglob("*"))
    text = sample(tmp_path, ["books/*.txt", "c.jsonl", "d.xml"], 3)
    assert sorted(tmp_path.rglob("*")) == before
    assert "a.txt, document 1: " in text
    assert text.count("licence removed") == 1
    assert "\n      [UNK] is stinkt" in text
    assert " ☃" in text
    assert "c.jsonl, document " in text
    assert "d.xml, document 1: 1 sentence, " in text
    assert "markup removed: " in text
    assert text == sample(tmp_path, ["books/*.txt", "c.jsonl", "d.xml"], 3)
    lines = text.split("c.jsonl")[1].split("\n\n")[0].split("\n")[1:]
    shown = [line[6:] for line in lines if line[:4].strip().isdigit()]
    encode = vocab.tokenizer(VOCABULARY).encode
    corpus = [[" ".join(encode(s).tokens) for s in sentences.split(document(i))] for i in range(100)]
    assert shown in corpus


def test_a_sample_is_random_and_says_what_is_left_out(tmp_path):
    (tmp_path / "text.txt").write_text("\n\n".join(map(document, range(200))))
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "test.txt").write_text("\n".join(map(document, range(200))))
    text = sample(tmp_path, ["text.txt"], 5, decontaminate=str(tmp_path / "bench"), min_tokens=10**6)
    lines = [line for line in text.split("\n") if "text.txt, document" in line]
    numbers = [int(line.split("document ")[1].split(":")[0]) for line in lines]
    assert len(numbers) == 5
    assert max(numbers) > 20
    assert text.count("left out: fewer than 1000000 tokens") == 5
    assert text.count("(test text, left out)") > 50
    with pytest.raises(command.UserError, match="--sample 0 is less than 1"):
        sample(tmp_path, ["text.txt"], 0)


def test_only_the_beginning_of_a_source_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(preview, "SAMPLED_CHARS", 5000)
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps({"text": document(i)}) for i in range(90)) + "\nbroken")
    encoder = encoding.Encoder(VOCABULARY)
    sampler = preview.Sampler(worker.Options(), encoder)
    assert len([*sampler.lines(sources.find([str(tmp_path / "text.jsonl")]), 3)]) > 10


def test_the_command_needs_out_or_sample_and_reports_sentences(tmp_path):
    (tmp_path / "text.txt").write_text("\n\n".join(SENTENCES))
    vocab.save(VOCABULARY, tmp_path / "tokenizer")
    argv = words(tmp_path, tmp_path / "out")
    run = warm_processes.run(argv[0], argv[1:])
    assert (run.returncode, run.stderr.count("documents have one sentence; next")) == (0, 1)
    train = contents(prepare.store.read(tmp_path / "out"), "train")
    single = sum(len(d) == 1 for d in train)
    assert f"median 1, mean 1.0; {single:,} (100.0%) of the documents have one" in run.stdout
    assert f"warning: {single:,} of {len(train):,} training documents have one sentence" in run.stdout
    described = warm_processes.run("tools.describe_corpus", [tmp_path / "out"]).stdout
    assert f"warning: {single:,} of {len(train):,} training" in described
    argv = ["--input", tmp_path / "text.txt", "--tokenizer", tmp_path / "tokenizer"]
    assert warm_processes.run("tools.prepare_corpus", argv).stderr.startswith("error: --out is missing; ")
    assert warm_processes.run("tools.prepare_corpus", [*argv, "--sample", "2"]).stdout.startswith("2 documents, ")


def test_a_corpus_is_described_by_its_folder_or_its_lockfile_with_what_was_read_and_kept(tmp_path):
    (tmp_path / "text.txt").write_text("\n\n".join(map(document, [*range(40), 0, 1])))
    vocab.save(VOCABULARY, tmp_path / "tokenizer")
    argv = words(tmp_path, tmp_path / "out")
    assert warm_processes.run(argv[0], [*argv[1:], "--heldout", "0.2"]).returncode == 0
    by_folder, by_file = (
        warm_processes.run("tools.describe_corpus", [tmp_path / name]).stdout for name in ("out", "out/corpus.json")
    )
    assert by_folder == by_file
    [header] = [line.split() for line in by_folder.split("\n") if line.startswith("source ")]
    assert header == ["source", "read", "kept", "tokens", "epochs"]
    assert "in an epoch, no part of the text is shown" in by_folder
