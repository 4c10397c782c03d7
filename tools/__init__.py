"""Commands around training: bert-tpu NAME, or python -m tools.MODULE."""
