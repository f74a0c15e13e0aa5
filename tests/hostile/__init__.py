"""Hostile inputs: mutations of small valid files and named traps, each within limits. See `generator` and `guard`."""
