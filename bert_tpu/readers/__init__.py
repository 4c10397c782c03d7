"""Where text and rows come from: files, archives, dumps, Parquet, TFDS, TSV, CSV, JSON lines."""
