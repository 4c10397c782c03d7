"""Sources of text and rows: files, archives, dumps, Parquet, the Hub, TFDS, TSV, CSV, JSON lines."""
