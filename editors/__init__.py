"""What editors get: a TextMate grammar, and an extension of VS Code that holds it. Nothing here is in the wheel."""
