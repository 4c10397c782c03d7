"""All targets of random inputs."""

from fuzz import target, targets_models, targets_runs, targets_tables, targets_text


def all_targets() -> list[target.Target]:
    """The targets, in the order of the table."""
    return [*targets_text.targets(), *targets_tables.targets(), *targets_runs.targets(), *targets_models.targets()]
