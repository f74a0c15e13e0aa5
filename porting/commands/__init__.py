"""What each command does, and what people see of it."""
