"""Pretrains a BERT with MLM + NSP on a prepared corpus.

bert-tpu pretrain --config bert:medium --workdir W --config.data.dir=CORPUS [--config.x.y=z]
"""

import sys

from bert_tpu.core import command, numerals

with command.imports():
    from etils import epath
    import jax
    import ml_collections

    from bert_tpu.core import storage
    from bert_tpu.distributed import mesh, rendezvous
    from bert_tpu.hardware import host_memory
    from bert_tpu.model import param_layout
    from bert_tpu.monitoring import hours
    from bert_tpu.pretrain import pretraining
    from bert_tpu.training import nonfinite, orbax_setup, replay, saved_params, trainer, workdir


def replay_step(cfg: ml_collections.ConfigDict, directory: epath.Path, step: int) -> None:
    """Computes one `step` of the run in `directory` again, as configured and in float32, and prints the results.

    Raises UserError if the run has another config than `cfg`.
    """
    workdir.check_format(directory)
    workdir.check(directory, cfg.to_dict() | pretraining.training(cfg).facts)
    cfg = cfg.copy_and_resolve_references().unlock()
    cfg.eval.num_batches = 0
    if not 0 <= step < cfg.num_steps:
        raise command.UserError(f"--replay {step}: the run has steps 0 to {cfg.num_steps - 1:,}")
    jobs = {f"as configured ({cfg.model.dtype})": pretraining.make_job(cfg)}
    cfg.model.dtype = "float32"
    jobs["in float32"] = pretraining.make_job(cfg)
    path, missing = nonfinite.params_of(directory, step)
    params = jax.device_get(
        saved_params.load_params(
            path, trainer.abstract_state(pretraining.make_job(cfg), mesh.make(jax.devices()[:1])).params
        )
    )
    data = pretraining.open_data(cfg, pretraining.open_corpus(cfg), pretraining.make_batch_spec(cfg), devices=1)
    seq_len, batch = next(data.batches_from(step))
    print(f"step {step:,}, from 0, of {seq_len} tokens; parameters of {path}"
          + (f", which lack the {numerals.count(missing, 'update')} before it" if missing else ""))  # fmt: skip
    replay.report(jobs, params, seq_len, batch, step, lambda tree: param_layout.trim(tree, cfg.model.vocab_size))


def main() -> None:
    """Reads the command line and trains, on as many hosts as the environment describes (distributed.rendezvous)."""
    command.quiet_tensorflow()
    orbax_setup.quiet()
    host_memory.keep_freed_memory()
    with rendezvous.connect() as group:
        parser = command.Parser(description=__doc__)
        parser.add_argument(
            "--workdir", required=True, type=epath.Path, help="directory of the run; a stopped run continues from it"
        )
        parser.add_argument(
            "--replay", type=int, metavar="STEP",
            help="compute one step (from 0) of the run in --workdir again, on this CPU, and show what is not finite",
        )  # fmt: skip
        args = pretraining.parse(parser)
        if args.replay is not None:
            jax.config.update("jax_platforms", "cpu")
            replay_step(args.config, storage.absolute(args.workdir), args.replay)
            return
        code = pretraining.run(args.config, storage.absolute(args.workdir), group, hours.process_began_s())
    sys.exit(code)


if __name__ == "__main__":
    command.run(main)
