"""The BERT encoder and its layers; how its parameters are stored in a training state."""
