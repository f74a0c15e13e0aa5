"""The conformance farm: a tiny random oracle of every causal type of transformers, and the matrix of ports."""
