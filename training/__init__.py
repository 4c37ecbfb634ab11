"""How the embedded models were made: corpus, tokenizers, architectures, training, evaluation and export."""
