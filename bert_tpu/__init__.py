"""Compact BERT encoders, pretrained in JAX on TPU pods, exported to PyTorch."""

__version__ = "0.2.0"
