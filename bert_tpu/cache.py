"""JAX's persistent compilation cache: a restart compiles nothing."""

import os

import jax

from bert_tpu import places


def use(folder):
    """Every program, however quickly built, is kept in `folder`, which may be in a bucket; "" keeps none."""
    if folder:
        jax.config.update("jax_compilation_cache_dir", str(places.absolute(os.path.expanduser(folder))))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
