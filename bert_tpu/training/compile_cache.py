"""JAX's persistent compilation cache: a restart compiles nothing."""

import os

import jax

from bert_tpu.core import command, storage


def use(folder: str) -> None:
    """Keeps every compiled program, however quickly built, in `folder`, which may be in a bucket; "" keeps none.

    Raises UserError if the folder cannot be written.
    """
    if not folder:
        return
    path = storage.absolute(os.path.expanduser(folder))
    if not storage.is_bucket(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
            writable = os.access(path, os.W_OK)
        except OSError:
            writable = False
        if not writable:
            raise command.UserError(
                f"compile_cache {path} cannot be written: give another --config.compile_cache, or none: "
                "--config.compile_cache="
            )
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
