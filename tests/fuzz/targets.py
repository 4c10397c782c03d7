"""All targets of random inputs."""

from fuzz import target, targets_models, targets_runs, targets_tables, targets_text, targets_transformers


def all_targets() -> list[target.Target]:
    """The targets, in the order of the table."""
    files = targets_text, targets_tables, targets_runs, targets_models, targets_transformers
    return [each for file in files for each in file.targets()]
