# SPDX-License-Identifier: Apache-2.0
"""What each command does, between its arguments and its exit status."""
