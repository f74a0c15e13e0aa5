"""Tensors of a checkpoint as the places that operations read."""
