"""How many bytes a program takes on one chip."""
