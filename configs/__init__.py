"""Configs, by name: --config NAME[:VARIANT]."""
