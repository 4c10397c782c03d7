"""Helpers of several test files: tiny runs, small models, files in the benchmarks' forms, stand-ins for the cloud."""
