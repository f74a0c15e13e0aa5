# SPDX-License-Identifier: Apache-2.0
"""Pages made from the tables of the code: operations, blocks, codes, devices, numerics, commands, the Python API."""
