"""Files on the Hugging Face Hub are found, read as streams and retried; every refusal is one sentence with the fix."""

import bz2
import gzip
import io
import json
import time

from helpers import fake_hub
from helpers.fake_hub import NAME, TOKEN
from helpers.text_sources import DOCUMENTS, WIKI, read
import pytest

from bert_tpu.core import command, hub_requests
from bert_tpu.readers import hub, sources

pyarrow = pytest.importorskip("pyarrow")
constants = pytest.importorskip("huggingface_hub.constants")
parquet = pytest.importorskip("pyarrow.parquet")

HERE = f"hf://datasets/{NAME}"


def packed(texts, **options):
    """Returns a Parquet file with the texts and a column that is twice as long."""
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"url": [text[::-1] * 2 for text in texts], "text": texts}), file, **options)
    return file.getvalue()


def files():
    """Returns the files of a data set, in each of two of which are all DOCUMENTS."""
    lines = "".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS).encode()
    return {
        ".gitattributes": b"*.parquet filter=lfs",
        "README.md": b"A card.",
        "data/train-0.parquet": packed(DOCUMENTS),
        "data/en/train-1.parquet": packed(DOCUMENTS),
        "data/[x].txt": b"A name with the letters of a glob.",
        "ä b#1/100%?.txt": "\n\n".join(DOCUMENTS).encode(),
        "en/c4-train.00000.json.gz": gzip.compress(lines),
        "en/c4-train.00001.json.gz": gzip.compress(lines),
        "wiki/wiki_00.bz2": bz2.compress(WIKI.encode()),
    }


@pytest.fixture
def server(monkeypatch):
    """A Hub with one data set, which this process uses; nobody waits."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with fake_hub.Hub() as server:
        server.commit(files())
        for key, value in server.environment().items():
            monkeypatch.setenv(key, value)
        hub_requests.files.cache_clear()
        yield server
    hub_requests.files.cache_clear()


def complaint(pattern):
    """Returns the sentence with which reading ends."""
    with pytest.raises(command.UserError) as raised:
        read(pattern)
    sentence = command.sentence(raised.value)
    assert TOKEN not in sentence
    assert len(sentence) < 400
    return sentence


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("data/*.parquet", ["data/train-0.parquet"]),
        ("**/*.parquet", ["data/en/train-1.parquet", "data/train-0.parquet"]),
        ("data/**", ["data/[x].txt", "data/en/train-1.parquet", "data/train-0.parquet"]),
        ("*/*-1.parquet", []),
        ("*", []),
        ("data/[x].txt", ["data/[x].txt"]),
        ("ä b#1/100%?.txt", ["ä b#1/100%?.txt"]),
        ("README.md", []),
    ],
)
def test_globs_find_files_but_not_the_card(server, pattern, names):
    if names:
        assert [source.path for source in sources.find([f"{HERE}/{pattern}"])] == [f"{HERE}/{name}" for name in names]
    else:
        assert "no file matches the input" in complaint(f"{HERE}/{pattern}")


@pytest.mark.parametrize("name", ["data/train-0.parquet", "en/*00.json.gz", "wiki/*", "ä b#1/100%?.txt"])
def test_every_kind_of_file_is_read(server, name):
    texts, counts = read(f"{HERE}/{name}")
    assert texts == DOCUMENTS
    assert counts.read_bytes == sum(source.bytes for source in sources.find([f"{HERE}/{name}"]))


def test_a_revision_is_a_commit_a_branch_or_a_branch_of_the_hub(server):
    first = server.commit({"a.txt": b"First."}, "v1.0")
    server.commit({"a.txt": b"Second."})
    server.commit({"a.txt": b"Third."}, "refs/convert/parquet")
    for revision, text in (
        ("", "Second."), ("@v1.0", "First."), (f"@{first}", "First."), ("@refs/convert/parquet", "Third."),
        ("@refs%2Fconvert%2Fparquet", "Third."), ("@main", "Second."),
    ):  # fmt: skip
        assert read(f"{HERE}{revision}/a.txt")[0] == [text]
    assert len(sources.find([f"{HERE}/a.txt", f"{HERE}@main/*.txt", f"{HERE}@v1.0/a.txt"])) == 2


def test_a_file_is_read_as_it_was_when_it_was_listed(server):
    found = sources.find([f"{HERE}/data/*.parquet"])
    server.commit({"data/train-0.parquet": packed(["Other text."])})
    assert [document.text for document in sources.documents(found, sources.Counts())] == DOCUMENTS
    changed = sources.find([f"{HERE}/data/*.parquet"])
    assert (changed[0].path, changed[0].content == found[0].content) == (found[0].path, False)


def test_a_file_comes_in_blocks_when_they_are_needed_and_only_its_column(server, monkeypatch):
    monkeypatch.setattr(hub, "BLOCK_BYTES", 1 << 16)
    texts = [f"{i} " + "word " * 400 for i in range(2000)]
    raw = packed(texts, compression="none", row_group_size=1000, use_dictionary=False)
    server.commit({"a.parquet": raw, "a.txt": "\n\n".join(texts).encode()})
    for name, share in (("a.parquet", 0.5), ("a.txt", 1.1)):
        found = sources.find([f"{HERE}/{name}"])
        documents = sources.documents(found, sources.Counts())
        assert next(documents).text == texts[0]
        assert server.sent[name] < 0.2 * found[0].bytes
        assert [document.text.strip() for document in documents] == [text.strip() for text in texts[1:]]
        assert server.sent[name] < share * found[0].bytes


def test_a_fault_that_passes_costs_no_text(server, capfd):
    found = sources.find([f"{HERE}/data/*.parquet"])
    server.faults.extend([503, 429, "cut", 500, "short", "cut", 504, 502, "short", 503])
    assert [document.text for document in sources.documents(found, sources.Counts())] == DOCUMENTS
    assert not server.faults
    server.listing_faults.extend([503, 503])
    assert len(sources.find([f"{HERE}/data/*.parquet"])) == 1
    assert "secret" not in capfd.readouterr().err


def test_a_fault_that_stays_ends_with_one_sentence(server):
    found = sources.find([f"{HERE}/data/*.parquet"])
    server.faults.extend([503] * 100)
    with pytest.raises(command.UserError, match=r"the Hub does not answer .*503.*; run the same command again later"):
        list(sources.documents(found, sources.Counts()))
    server.listing_faults.extend([503] * 100)
    assert "does not answer" in complaint(f"{HERE}/data/*.parquet")


def test_a_hub_that_cannot_be_reached_is_named(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert "the Hub does not answer" in complaint(f"{HERE}/data/*.parquet")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_requests.files.cache_clear()
    assert "HF_HUB_OFFLINE is set; unset it" in complaint(f"{HERE}/data/*.parquet")


def test_the_token_goes_to_the_hub_and_nowhere_else(server, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("hf_of_this_machine")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    read(f"{HERE}/data/*.parquet")
    assert {given for _, given in server.requests} == {None}
    server.token = TOKEN
    assert "set HF_TOKEN to a token with access" in complaint(f"{HERE}/data/*.parquet")
    for wrong, words in (("hf_wrong", "refuses this HF_TOKEN"), ("hf_ü", "HF_TOKEN has characters")):
        monkeypatch.setenv("HF_TOKEN", wrong)
        hub_requests.files.cache_clear()
        assert words in complaint(f"{HERE}/data/*.parquet")
    monkeypatch.setenv("HF_TOKEN", f" {TOKEN}\n")
    hub_requests.files.cache_clear()
    server.requests.clear()
    assert read(f"{HERE}/data/*.parquet")[0] == DOCUMENTS
    assert TOKEN not in repr(sources.find([f"{HERE}/data/*.parquet"]))
    for path, given in server.requests:
        assert given == (None if path.startswith("/content/") else f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (f"{HERE}/data/*.jsonl", "the data set has data/[x].txt, data/en, data/train-0.parquet"),
        (f"{HERE}/data", "the data set has data/[x].txt, data/en, data/train-0.parquet"),
        (f"{HERE}/no/such/folder/*.parquet", "the data set has data, en, wiki, ä b#1"),
        (f"{HERE}@v9/data/*", "has no such revision; check what follows the @"),
        ("hf://datasets/owner/other/*", "no such data set, or it is private; check the name"),
        ("hf://datasets/owner/na me!/*", "no such data set"),
        (f"{HERE}/data/**.parquet", "as in data/**/*.parquet"),
        (f"{HERE}//data/*.parquet", "between two / must be a name"),
        (f"{HERE}/../a.parquet", "between two / must be a name"),
        (HERE, "is not of the form hf://datasets/OWNER/NAME/PATH; for all Parquet files write"),
        ("hf://datasets/squad/a.parquet", "is not of the form"),
        ("hf://owner/name/a.parquet", "is not of the form"),
        ("hf://buckets/owner/name/a.parquet", "is not of the form"),
    ],
)
def test_a_wrong_name_is_refused_with_what_there_is(server, pattern, words):
    assert words in complaint(pattern)


@pytest.mark.parametrize(
    ("page", "path"),
    [
        ("", "/**/*.parquet"),
        ("/", "/**/*.parquet"),
        ("/viewer/default/train?p=1", "/**/*.parquet"),
        ("/tree/main", "/**/*.parquet"),
        ("/tree/main/data", "/data/*.parquet"),
        ("/tree/v1.0/a%20b/", "@v1.0/a b/*.parquet"),
        ("/resolve/main/data/a.parquet?download=true", "/data/a.parquet"),
        ("/blob/refs%2Fconvert%2Fparquet/default/a.parquet", "@refs%2Fconvert%2Fparquet/default/a.parquet"),
    ],
)
def test_the_address_of_a_page_is_refused_with_the_path(page, path):
    with pytest.raises(command.UserError) as raised:
        sources.find([f"https://huggingface.co/datasets/{NAME}{page}"])
    assert str(raised.value).endswith(f"give '{HERE}{path}'")


def test_a_gated_data_set_names_the_consent(server):
    server.is_gated = True
    assert "accept its terms; accept them on its page" in complaint(f"{HERE}/data/*.parquet")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"<html>", b'{"id": "owner/name"}', b'{"id": 1, "sha": 2}']
)
def test_an_answer_of_another_server_is_not_taken_for_the_hubs(server, body):
    server.listing_faults.extend([body] * 3)
    assert "the Hub does not answer" in complaint(f"{HERE}/data/*.parquet")
    server.listing_faults.append(body)
    assert len(sources.find([f"{HERE}/data/*.parquet"])) == 1
