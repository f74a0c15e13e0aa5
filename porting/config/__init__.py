"""A model's configuration: read strictly, spelt one way, every key accounted for."""
