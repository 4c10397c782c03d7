"""JAX's persistent compilation cache: a restart compiles nothing."""

import os

import jax

from bert_tpu.core import command, storage


def use(folder):
    """Every program, however quickly built, is kept in `folder`, which may be in a bucket; "" keeps none.

    Raises UserError where nothing can be written there.
    """
    if not folder:
        return
    path = storage.absolute(os.path.expanduser(folder))
    if not storage.is_bucket(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
            sound = os.access(path, os.W_OK)
        except OSError:
            sound = False
        if not sound:
            raise command.UserError(
                f"compile_cache {path} cannot be written: give another --config.compile_cache, or none: "
                "--config.compile_cache="
            )
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
