"""A part of a corpus: some consecutive documents, made into shards by one worker process."""

import array
from collections.abc import Iterator
import functools
import hashlib
import itertools
import multiprocessing
import os
from pathlib import Path
import signal
import threading

import numpy as np

from bert_tpu import corpus, sentences, sources, vocab

BATCH_CHARS = 1 << 18  # of documents encoded at once: bounds a worker's memory
MEMO_CHARS = 1 << 22  # of words remembered: about 500,000 words, 100 MB
RECORDS = "part-*.json"  # the files that `record` names


class Encoder:
    """Sentences to ids, encoding each distinct word once.

    Google's rules never look past a space, so the ids of a sentence are those of its words. Of
    Wikipedia's words 93% were met before: this takes half the time of encoding sentences whole.
    """

    def __init__(self, vocabulary: vocab.Vocab):
        self.unknown = vocab.ids(vocabulary).unk
        self._tokenizer = vocab.tokenizer(vocabulary)
        self.memo: dict[str, bytes] = {}
        self._memo_chars = 0

    def encode(self, texts: list[str]) -> list[bytes]:
        """The ids of each text as the bytes of uint16, without special tokens."""
        if self._memo_chars > MEMO_CHARS:
            self.memo.clear()
            self._memo_chars = 0
        words = [text.split(" ") for text in texts]
        new = list(set(itertools.chain.from_iterable(words)).difference(self.memo))
        for word, code in zip(new, self._tokenizer.encode_batch_fast(new, add_special_tokens=False), strict=True):
            self.memo[word] = array.array("H", code.ids).tobytes()
        self._memo_chars += sum(map(len, new))
        ids = self.memo.__getitem__
        return [b"".join(map(ids, text)) for text in words]


class Pile:
    """Documents of one split, on their way into a shard."""

    def __init__(self):
        self._codes: list[bytes] = []
        self._documents: list[int] = []

    def add(self, codes: list[bytes]) -> None:
        """The pile has one more document, of these sentences."""
        self._codes += codes
        self._documents.append(len(codes))

    def shard(self) -> corpus.Shard:
        """All of the pile."""
        return corpus.Shard(
            tokens=np.frombuffer(b"".join(self._codes), np.uint16),
            sentences=np.fromiter(map(len, self._codes), np.uint32, len(self._codes)) // 2,
            documents=np.array(self._documents, np.uint32),
        )


def record(out: str | Path, number: int) -> Path:
    """The file that says, once it exists, that part `number` is done, and what came of it."""
    return Path(out) / f"part-{number:05d}.json"


def write(out: str, number: int, documents: list[sources.Document], *, heldout: float) -> None:
    """The part's shards and then its record are in `out`; their bytes depend on nothing else.

    `out` holds the tokenizer. A split without documents has no shard.
    """
    encoder = _encoder(out)
    piles = {split: Pile() for split in corpus.SPLITS}
    empty = 0
    for document, codes in _encode(encoder, documents):
        if codes:
            piles["heldout" if _is_held_out(document, codes, heldout) else "train"].add(codes)
        else:
            empty += 1
    content = {"empty_documents": empty, "shards": {}, "unknown": {}}
    for split, pile in piles.items():
        shard = pile.shard()
        if len(shard.documents):
            path = Path(out) / f"{split}-{number:05d}.safetensors"
            content["shards"][split] = corpus.write_shard(path, shard)._asdict()
            content["unknown"][split] = int(np.count_nonzero(shard.tokens == encoder.unknown))
    corpus.write_bytes(record(out, number), corpus.json_bytes(content))


def start() -> None:
    """Makes this process a worker: one thread of work, and no life of its own."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # After a kill -9 of the parent, a pool's workers would wait for work for ever.
    multiprocessing.parent_process().join()
    os._exit(1)


@functools.cache
def _encoder(out: str) -> Encoder:
    return Encoder(vocab.load(out))


def _encode(encoder: Encoder, documents: list[sources.Document]) -> Iterator[tuple[sources.Document, list[bytes]]]:
    """Each document with the ids of those of its sentences that have any."""
    batch, texts, chars = [], [], 0
    for i, document in enumerate(documents):
        found = sentences.split(document.text)
        batch.append((document, len(found)))
        texts += found
        chars += len(document.text)
        if chars >= BATCH_CHARS or i == len(documents) - 1:
            codes = iter(encoder.encode(texts))
            for member, count in batch:
                yield member, [code for code in itertools.islice(codes, count) if code]
            batch, texts, chars = [], [], 0


def _is_held_out(document: sources.Document, codes: list[bytes], share: float) -> bool:
    """Decided by the document's tokens, so that copies of it are always in the same split."""
    if document.piece:  # its other pieces are in the training split
        return False
    digest = hashlib.blake2b(b"".join(codes), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64
