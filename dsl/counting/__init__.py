"""A graph's bytes and work as formulas."""
