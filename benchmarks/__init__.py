# SPDX-License-Identifier: Apache-2.0
"""Speed and strength, measured by commands such as `python -m benchmarks` and `python -m benchmarks.edits`."""
