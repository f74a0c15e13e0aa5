# SPDX-License-Identifier: Apache-2.0
"""The accelerator: what operations compute, where bytes live, and the engine that runs a graph."""
