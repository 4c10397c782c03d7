"""The commands beside training: python -m tools.NAME."""

import bert_tpu  # noqa: F401  before anything that a command imports: it makes that quicker
