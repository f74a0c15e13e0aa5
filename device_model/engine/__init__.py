"""A bound graph and its weights, ready to run sequences."""
