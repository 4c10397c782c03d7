"""Sources of text and rows: files, archives, dumps, Parquet, TFDS, TSV, CSV, JSON lines."""
