"""Compares training recipes by the compute that they need for one held-out loss."""
