# SPDX-License-Identifier: Apache-2.0
"""Characters to syntax and back: grammar, parser, formatter."""
