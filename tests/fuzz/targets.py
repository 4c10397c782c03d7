"""All targets of random inputs."""

from fuzz import (
    target,
    targets_benchmarks,
    targets_commands,
    targets_models,
    targets_programs,
    targets_remote,
    targets_runs,
    targets_tables,
    targets_text,
    targets_tools,
    targets_transformers,
)

FILES = (
    targets_text, targets_remote, targets_tables, targets_benchmarks, targets_runs, targets_models,
    targets_transformers, targets_programs, targets_tools, targets_commands,
)  # fmt: skip


def all_targets() -> list[target.Target]:
    """The targets, in the order of the table."""
    return [each for file in FILES for each in file.targets()]
