"""The text demo: a corpus, a byte-pair tokenizer and a 3-gram model to beat."""
