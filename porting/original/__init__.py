# SPDX-License-Identifier: Apache-2.0
"""The original model in transformers: loaded as it lies, in float64 and in low precision."""
