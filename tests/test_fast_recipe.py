"""The values of configs/fast.py, for each size, and that runs can be made of them."""

import pytest

from bert_tpu.data import row_limits
from bert_tpu.pretrain import pretraining
from configs import bert, fast

PEAKS = {128: 2e-3, 256: 1.414e-3, 512: 1e-3, 768: 8.165e-4}  # 2e-3 x sqrt(128 / width)


@pytest.mark.parametrize("variant", bert.VARIANTS)
def test_each_lever_has_its_value(variant):
    cfg, width = fast.get_config(variant), bert.VARIANTS[variant][1]
    optimizer, spec = pretraining.make_optimizer(cfg), pretraining.make_batch_spec(cfg)
    assert optimizer.peak.rate == pytest.approx(PEAKS[width], rel=1e-3)
    assert optimizer.warmup.steps == round(0.02 * cfg.num_steps)
    assert float(optimizer.rate(optimizer.warmup.steps)) == pytest.approx(optimizer.peak.rate)
    assert float(optimizer.rate(cfg.num_steps)) == 0
    assert cfg.optim.name == "adamw"
    assert cfg.optim.b2 == 0.98
    assert cfg.model.dropout == cfg.model.attention_dropout == 0
    assert (spec.mask_rate, spec.final_mask_rate) == ((0.2, 0.15) if width == 128 else (0.3, 0.15))
    assert not row_limits.slots_warning(spec)
    assert spec.first_nsp_step == pytest.approx(0.9 * cfg.num_steps, abs=1)
    assert spec.before(cfg.num_steps, 512) == cfg.num_steps // 20
    assert spec.is_packed(512)


def test_only_the_recipe_differs_from_the_original():
    """The model that is exported has the same sizes."""
    original, changed = bert.get_config(), fast.get_config()
    sections = {"optim", "data"}
    for key, value in original.items():
        if key not in sections | {"model", "num_steps"}:
            assert changed[key] == value, key
    sizes = original.model.to_dict() | {"dropout": 0.0, "attention_dropout": 0.0}
    assert changed.model.to_dict() == sizes
    assert pretraining.make_job(changed).flops.keys() == {128, 512}
