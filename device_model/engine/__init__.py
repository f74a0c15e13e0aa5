# SPDX-License-Identifier: Apache-2.0
"""A bound graph and its weights, ready to run sequences."""
