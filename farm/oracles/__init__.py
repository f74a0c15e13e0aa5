"""Tiny random checkpoints of transformers' causal types, and what they hold."""
