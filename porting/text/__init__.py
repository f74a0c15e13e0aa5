# SPDX-License-Identifier: Apache-2.0
"""Text in and out: tokenizers and chat templates."""
