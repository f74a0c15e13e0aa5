"""What people touch: the command line and the performance of programs."""
