# SPDX-License-Identifier: Apache-2.0
"""The one rule: which rows a port is judged on, how they are fed, and what error it may have."""
