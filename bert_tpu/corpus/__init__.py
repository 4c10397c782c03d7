"""Text -> a prepared corpus on disk: clean, deduplicate, mix, split, tokenize."""
