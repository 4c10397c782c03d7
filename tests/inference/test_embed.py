"""The vectors of lines are transformers' hidden states, for every layer, in the order of the lines."""

import io
import json
import subprocess
import sys

from helpers import small_bert
import numpy as np
import pytest
import torch
import transformers

from bert_tpu.core import command
from bert_tpu.inference import embed, line_texts
from tools import embed as tool

WORDS = small_bert.WORDS.replace("##", "").split()
LAYERS = small_bert.SECTION["num_layers"]
MOST = small_bert.SECTION["max_positions"]
POOLS = ("cls", "mean")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return small_bert.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def texts():
    """Lines of 0 to 50 words, some longer than the model, in no order, and three of about its length."""
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, n)) for n in rng.permutation([*range(51), 0, 1, 46])]
    return lines + ["the" + " cat" * (MOST - 3 + more) for more in (1, 0, -1)]


@pytest.fixture(scope="module")
def file(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def states(directory, texts):
    """transformers' hidden states of each line, [layers + 1, L, D], the line alone in its batch."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    bert = transformers.BertModel.from_pretrained(directory, add_pooling_layer=False).eval()
    hidden = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, return_tensors="pt")
        with torch.no_grad():
            hidden.append(torch.cat(bert(**inputs, output_hidden_states=True).hidden_states).numpy())
    return hidden


def expected(states, layer, pool):
    return np.stack([state[layer, 0] if pool == "cls" else state[layer].mean(0) for state in states])


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("layer", range(-LAYERS - 1, LAYERS + 1))
def test_npy_contains_the_hidden_states_of_transformers(directory, file, states, tmp_path, layer, pool):
    embedder = embed.load(directory, layer=layer, pool=pool, batch_size=8)
    counts = embed.write(embedder, file, tmp_path / "x.npy")
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    whole = tokenizer(file.read_text().splitlines(), verbose=False).input_ids
    assert counts == (57, sum(len(ids) > MOST for ids in whole), 0)
    assert {MOST - 1, MOST, MOST + 1} <= set(map(len, whole))
    vectors = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert (vectors.dtype, vectors.shape) == (np.float32, (57, 64))
    np.testing.assert_allclose(vectors, expected(states, layer, pool), rtol=0, atol=1e-5)


@pytest.mark.parametrize("pool", POOLS)
def test_jsonl_and_npy_have_the_same_bits(directory, file, tmp_path, pool):
    embedder = embed.load(directory, pool=pool)
    for name in ("x.npy", "x.jsonl"):
        embed.write(embedder, file, tmp_path / name)
    listed = [json.loads(line)["vector"] for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    np.testing.assert_array_equal(np.array(listed, np.float32), np.load(tmp_path / "x.npy"))


@pytest.mark.parametrize("layer", range(LAYERS + 1))
def test_tokens_come_with_their_pieces(directory, file, texts, states, tmp_path, layer):
    embed.write(embed.load(directory, layer=layer, pool="tokens"), file, tmp_path / "x.jsonl")
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    written = (tmp_path / "x.jsonl").read_text().splitlines()
    for text, state, line in zip(texts, states, map(json.loads, written), strict=True):
        assert line["tokens"] == tokenizer.convert_ids_to_tokens(tokenizer(text, truncation=True).input_ids)
        np.testing.assert_allclose(line["vectors"], state[layer], rtol=0, atol=1e-5)


def test_windows_bound_the_memory_and_change_nothing(directory, file, tmp_path, monkeypatch):
    embedder = embed.load(directory, batch_size=4)
    embed.write(embedder, file, tmp_path / "one.npy")
    monkeypatch.setattr(embed, "WINDOW", 100)
    monkeypatch.setattr(embed, "BLOCK", 3)
    read, ahead = 0, []

    def lines():
        nonlocal read
        for line in file.read_bytes().splitlines(keepends=True):
            read += 1
            yield line

    vectors = []
    for line in embed.lines(embedder, lines()):
        vectors.append(line.vectors)
        ahead.append(read - len(vectors))
    # A line has 24 words on average, so a window has about four lines; a block has three.
    assert max(ahead) < 20
    np.testing.assert_allclose(np.stack(vectors), np.load(tmp_path / "one.npy"), rtol=0, atol=1e-6)


def test_few_programs_are_compiled(directory, file, tmp_path):
    embed._vectors.clear_cache()
    embed.write(embed.load(directory, batch_size=2), file, tmp_path / "x.npy")
    assert embed._vectors._cache_size() == 2  # 32 and 48 tokens


def test_encoder_without_a_pooler_and_a_workdir_are_embedded_too(directory, file, tmp_path):
    embed.write(embed.load(directory), file, tmp_path / "x.npy")
    encoder = transformers.BertModel.from_pretrained(directory, add_pooling_layer=False)
    encoder.save_pretrained(tmp_path / "encoder")
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "encoder" / name).write_bytes((directory / name).read_bytes())
    for model in (tmp_path / "encoder", small_bert.workdir(tmp_path / "run")):
        embed.write(embed.load(model), file, tmp_path / "y.npy")
        np.testing.assert_allclose(np.load(tmp_path / "y.npy"), np.load(tmp_path / "x.npy"), rtol=0, atol=1e-6)


def options(directory, source, out, *more):
    return ["--model", str(directory), "--input", str(source), "--out", str(out), *more]


def test_command_reads_stdin_and_counts(directory, tmp_path, monkeypatch, capsys):
    long = "the " * MOST
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"the cat\r\n\n{long}\nno line end".encode())))
    monkeypatch.setattr(sys, "argv", ["embed", *options(directory, "-", tmp_path / "x.jsonl", "--pool", "tokens")])
    command.run(tool.main)
    assert capsys.readouterr().out == f"{tmp_path}/x.jsonl: 4 lines, 1 of them cut to 48 tokens\n"
    tokens = [json.loads(line)["tokens"] for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert tokens[:2] == [["[CLS]", "the", "cat", "[SEP]"], ["[CLS]", "[SEP]"]]
    assert list(map(len, tokens[2:])) == [MOST, 11]


JSON_LINES = b'{"id": 0, "text": "the cat"}\n{"id": 1, "text": "a dog"}\n'


@pytest.mark.parametrize(
    ("source", "content", "complaint"),
    [
        ("a.jsonl", b"the cat\n", "a.jsonl is JSON"), ("a.txt", JSON_LINES, "a.txt is JSON"),
        ("-", JSON_LINES, "stdin is JSON"), ("a", b'[\n  {"text": "the cat"},\n  {"text": "x"}\n]\n', "a is JSON"),
        ("b", b'[["the cat", 1], ["a dog", 0]]', "b is JSON"), ("c.txt", b'{\n  "texts": [\n "a"\n]}', "c.txt is JSON"),
        ("a.csv", b"text,label\nthe cat,1\n", "a.csv is a table by its name"), ("A.TSV", b"x\ty\n", "is a table"),
        ("texts", b"[MASK] the cat\n{x} is set\n[1] a note\n{\n", None),
    ],
)  # fmt: skip
def test_json_and_tables_are_refused_and_lines_that_look_like_it_are_not(tmp_path, source, content, complaint):
    if complaint is None:
        assert list(line_texts.checked(content.splitlines(), source)) == content.splitlines()
        return
    with pytest.raises(command.UserError, match=complaint):
        list(line_texts.checked(io.BytesIO(content), source))


@pytest.mark.parametrize(
    ("content", "out", "more", "complaint"),
    [
        (b"", "x.npy", (), "text.txt is empty"),
        (b"the cat\n\xff\n", "x.npy", (), "line 2 is not UTF-8"),
        (JSON_LINES, "x.npy", (), "text.txt is JSON, and a text on each line is wanted"),
        (b"the cat", "x.csv", (), "x.csv ends neither in .npy nor in .jsonl"),
        (b"the cat", "x.npy", ("--pool", "tokens"), "name a .jsonl"),
        (b"the cat", "x.npy", ("--layer", "3"), "has no layer 3: give 0, the embeddings, to 2, or -1 to -3"),
        (b"the cat", "x.npy", ("--layer", "-4"), "has no layer -4"),
        (b"the cat", "x.npy", ("--batch_size", "0"), "batch_size 0: give 1 or more"),
        (b"the cat", "x.npy", ("--pool", "max"), "invalid choice: 'max'"),
        (None, "x.npy", (), "text.txt does not exist"),
    ],
)
def test_a_wrong_input_or_option_is_refused_and_changes_no_file(
    directory, tmp_path, monkeypatch, content, out, more, complaint
):
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    (tmp_path / out).write_text("older")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(sys, "argv", ["embed", *options(directory, tmp_path / "text.txt", tmp_path / out, *more)])
    with pytest.raises(SystemExit, match=rf"^error: [^\n]*{complaint}[^\n]*$"):
        command.run(tool.main)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / out).read_text() == "older"


def test_command_needs_neither_pytorch_nor_tensorflow(directory, file, tmp_path):
    code = (
        "import runpy, sys; sys.modules |= dict.fromkeys(['torch', 'transformers', 'tensorflow']); "
        "runpy.run_module('tools.embed', run_name='__main__')"
    )
    words = options(directory, file, tmp_path / "x.npy")
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path}/x.npy: 57 lines")
    assert "embed: 100%" in done.stderr
