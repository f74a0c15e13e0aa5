"""Speed and strength, measured by commands such as `python -m benchmarks` and `python -m benchmarks.edits`."""
