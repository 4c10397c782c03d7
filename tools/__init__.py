"""Commands around training: python -m tools.NAME."""

import bert_tpu  # noqa: F401  first, because it makes a command's imports quicker
