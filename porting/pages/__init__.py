"""The frame of every page, and a text with its colours."""
