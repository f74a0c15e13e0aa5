# SPDX-License-Identifier: Apache-2.0
"""A model's configuration: read strictly, spelt one way, every key accounted for."""
