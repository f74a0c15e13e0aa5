"""Hugging Face models to ports: configs, checkpoints, validation, reports and the command line."""
