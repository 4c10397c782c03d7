"""Prepared corpus or task rows -> batches; batch n is a function of (seed, n)."""
