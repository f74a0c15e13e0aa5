# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's tensors: checked headers, mapped bytes, every tensor accounted for."""
