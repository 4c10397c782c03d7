"""A text that cannot be prepared ends a measurement with a sentence, not with the traceback of a failed process."""

from helpers import small_bert
import pytest

from bert_tpu.core import command
from bert_tpu.tokenizer import vocab
from tools import bench


def test_the_reason_why_a_text_is_not_prepared_is_given(tmp_path):
    (tmp_path / "text.txt").write_text("The cat sat. It ran.\n\nThe dog sat.\n")
    vocab.save(small_bert.VOCAB, tmp_path / "tokenizer")
    with pytest.raises(command.UserError, match=r"^the text cannot be prepared: .*--heldout"):
        bench.preparation(str(tmp_path / "text.txt"), str(tmp_path / "tokenizer"), str(tmp_path))
