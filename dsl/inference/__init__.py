"""Syntax to a typed graph."""
