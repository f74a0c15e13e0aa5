# SPDX-License-Identifier: Apache-2.0
"""The documentation as a site: pages of the repository and pages made from tables, built by Sphinx without a network.

`docs/README.md` is its table of contents. Not part of the wheel.
"""
