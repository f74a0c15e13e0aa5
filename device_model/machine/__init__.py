# SPDX-License-Identifier: Apache-2.0
"""How code runs on this machine: vectors and the order of sums, products, threads, compiled code on disk."""
