"""Where a port departs from the original model, and by which operation."""
