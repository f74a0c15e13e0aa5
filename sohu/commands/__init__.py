"""What each command does, between its arguments and its exit status."""
