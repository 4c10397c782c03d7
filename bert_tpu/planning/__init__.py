"""Plans a run for a TPU that is not present: memory, cycles, hours, cost."""
