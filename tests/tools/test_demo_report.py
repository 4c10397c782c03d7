"""The report of a demo needs only what every objective logs."""

import json

from helpers import bias_benchmarks, optional

from tools import demo_report


def test_lines_without_a_loss_are_no_evaluations(tmp_path):
    sound = {"kind": "eval", "seq_len": 16, "step": 3, "mlm_loss": 4.0, "mlm_accuracy": 0.1}
    lines = [sound, {"step": 4}, {"step": 5, "kind": "eval"}, sound | {"step": 6, "mlm_loss": None}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert demo_report.evaluations(str(tmp_path)) == {16: sound}


@optional.NEEDS_PYTORCH
def test_masks_are_filled_alike_in_jax_and_pytorch(tmp_path):
    directory = bias_benchmarks.save(tmp_path)
    sentences = ["the [MASK] sat .", "[MASK] is here"]
    assert list(demo_report.fill_in_jax(directory, sentences)) == list(demo_report.fill(str(directory), sentences))
