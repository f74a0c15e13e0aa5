"""Many files and a config to one bound program."""
