# SPDX-License-Identifier: Apache-2.0
"""Where a port departs from the original model, and by which operation."""
