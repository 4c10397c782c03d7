"""The values of configs/fast.py, for each size, and that runs can be made of them."""

from conftest import ROOT
import pytest

from bert_tpu.data import row_limits
from bert_tpu.pretrain import pretraining
from bert_tpu.recipes import experiment_file
from configs import bert, fast

# Files of docs/recipe.md: of its first two plans, in which `fast` had NSP in the last tenth, and of the third.
FIRST = ("micro", "mini", "long", "micro_original", "mini_original", "taught", "direct_micro", "direct_mini")
THIRD = ("nsp_micro", "nsp_mini", "nsp_third_micro", "nsp_third_mini")
PEAKS = {128: 1e-3, 256: 7.071e-4, 512: 5e-4, 768: 4.082e-4}  # 1e-3 x sqrt(128 / width)


@pytest.mark.parametrize("variant", bert.VARIANTS)
def test_each_lever_has_its_value(variant):
    cfg, width = fast.get_config(variant), bert.VARIANTS[variant][1]
    optimizer, spec = pretraining.make_optimizer(cfg), pretraining.make_batch_spec(cfg)
    assert optimizer.peak.rate == pytest.approx(PEAKS[width], rel=1e-3)
    assert optimizer.warmup.steps == round(0.05 * cfg.num_steps)
    assert float(optimizer.rate(optimizer.warmup.steps)) == pytest.approx(optimizer.peak.rate)
    assert float(optimizer.rate(cfg.num_steps)) == 0
    assert cfg.optim.name == "adamw"
    assert cfg.optim.b2 == 0.98
    assert cfg.model.dropout == cfg.model.attention_dropout == 0
    assert (spec.mask_rate, spec.final_mask_rate) == ((0.2, 0.15) if width == 128 else (0.3, 0.15))
    assert not row_limits.slots_warning(spec)
    assert spec.first_nsp_step == 0
    assert spec.steps_before(cfg.num_steps, 512) == cfg.num_steps // 20
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


@pytest.mark.parametrize(
    ("name", "arm_name", "nsp_share"),
    [*((name, "fast", 0.1) for name in FIRST + THIRD), *((name, "pairs", 1.0) for name in THIRD)],
)
def test_the_registered_files_judge_this_recipe_and_no_other(name, arm_name, nsp_share):
    """An arm has the values of configs/fast.py, but for batch_size, its rows, and NSP in the arm F."""
    plan = experiment_file.read(ROOT / f"docs/recipe_{name}.toml")
    arm, own = plan.arms[arm_name], fast.get_config(plan.config.partition(":")[2])
    made = plan.make_config(arm.keys, own.num_steps)
    for section in ("model", "data", "optim", "ramp", "distill"):
        for key, value in own[section].items():
            dotted = f"{section}.{key}"
            if dotted not in (*plan.keys, "optim.rate_width", "data.packed_rows", "data.nsp_share"):
                assert made[section][key] == value, dotted
    assert made.data.nsp_share == nsp_share
    assert own.data.nsp_share == 1.0
    assert own.optim.learning_rate == 1e-3
    assert own.optim.rate_width == own.model.hidden_size == 128  # at this width the rate is the config's
    # Half the examples of a batch share as many rows.
    assert own.batch_size / own.data.packed_rows == made.batch_size / made.data.packed_rows
