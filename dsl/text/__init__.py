"""Characters to syntax and back: grammar, parser, formatter."""
