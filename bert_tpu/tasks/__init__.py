"""GLUE, SQuAD, NER and user tables: readers, metrics, submissions."""
