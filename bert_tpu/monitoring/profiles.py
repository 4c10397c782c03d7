"""Traces a few steps of a run with JAX's profiler."""

import os
from typing import Any

import jax


class Profile:
    """A profiler's trace, in `directory`, of the steps first_step .. first_step + num_steps - 1, counted from 1."""

    def __init__(self, *, first_step: int, num_steps: int, directory: str | os.PathLike):
        """num_steps: 0 traces nothing."""
        self.steps, self.directory = range(first_step, first_step + num_steps), directory
        self._is_open = False

    def before(self, step: int, state: Any) -> bool:
        """Begins or ends the trace if that is due before `step` is dispatched on `state`; returns whether it was."""
        if (step in self.steps) == self._is_open:
            return False
        if self._is_open:
            jax.block_until_ready(state)  # the last step of the window is still running
            self.close()
        else:
            jax.profiler.start_trace(str(self.directory))
            self._is_open = True
        return True

    def close(self) -> None:
        """Writes the trace if one is open."""
        if self._is_open:
            jax.profiler.stop_trace()
            self._is_open = False
