# SPDX-License-Identifier: Apache-2.0
"""The pages of the repository that the site takes: which, where they stand in it, and their links there."""
