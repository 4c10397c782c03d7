"""Using a trained model: fill-mask, embeddings, likelihoods."""
