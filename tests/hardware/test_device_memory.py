"""A program that is too large for a device's memory ends in one sentence, from the compiler as well as at run time."""

from helpers import small_bert, tiny_finetunings
import jax
import jax.numpy as jnp
import pytest

from bert_tpu.core import command, config
from bert_tpu.finetune import finetuning
from bert_tpu.hardware import device_memory
from bert_tpu.training import trainer

MORE_THAN_THERE_IS = 1 << 47  # bytes: all addresses of x86_64


def ask():
    """Raises a real error: the CPU's, while the program runs."""
    jax.jit(lambda: jnp.zeros(MORE_THAN_THERE_IS, jnp.uint8))().block_until_ready()


def test_messages_of_the_compiler():
    for message, used, limit in (
        ("Ran out of memory in memory space hbm. Used 19.96G of 15.75G hbm. Exceeded by 4.21G.", 19.96, 15.75),
        ("the total memory required for HLO temporaries (600.00G) exceeds available HBM (512.00M). x", 600, 0.5),
    ):
        assert device_memory.needed_and_available(message) == (round(used * 2**30), round(limit * 2**30))
    assert device_memory.needed_and_available("something else") == (None, None)


def test_the_message_of_the_compiler_for_tpus_keeps_its_figures():
    message = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (26.84G) exceeds available HBM (15.75G). HLO module: jit_step.\nSee"
    )
    with (
        pytest.raises(command.UserError, match=r"too small: a program needs 26\.84 GiB of 15\.75; take less$"),
        device_memory.explain_shortage("take less"),
    ):
        raise jax.errors.JaxRuntimeError(message)


def test_another_error_passes_unchanged():
    error = jax.errors.JaxRuntimeError("INTERNAL: something else")
    with pytest.raises(jax.errors.JaxRuntimeError) as caught, device_memory.explain_shortage("take less"):
        raise error
    assert caught.value is error


def test_a_run_that_is_too_large_ends_in_a_sentence_and_leaves_its_workdir_free(tmp_path):
    name, rows = tiny_finetunings.classes(tmp_path)
    cfg = config.load(name)
    data = {f"data.{key}": value for key, value in rows.items()}
    model = small_bert.save(tmp_path / "model")
    cfg.update_from_flattened_dict(tiny_finetunings.KEYS | data | {"init_from": str(model), "num_steps": 2})
    setup = finetuning.load(cfg)
    training = finetuning.training(setup, tmp_path / "run")
    sentence = (
        r"a device's memory is too small; compute a batch in more parts \(config.accumulate is 1\), "
        r"train fewer of config.seeds at once, or lower config.batch_size$"
    )
    with pytest.raises(command.UserError, match=sentence):
        trainer.run(setup.cfg, training._replace(compile_programs=lambda *_: ask()), tmp_path / "run")
    assert trainer.run(setup.cfg, training, tmp_path / "run") == 0
