"""WordPiece in BERT's id layout: the vocabulary, training one, encoding text."""
