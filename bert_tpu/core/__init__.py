"""Shared by all folders: command errors, configs, storage, hashes, progress."""
