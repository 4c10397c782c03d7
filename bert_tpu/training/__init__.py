"""The step, the loop and the run of anything trainable. It knows nothing about BERT."""
