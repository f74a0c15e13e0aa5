"""What people see on a terminal, and tables in files."""
