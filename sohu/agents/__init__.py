# SPDX-License-Identifier: Apache-2.0
"""The door for coding agents: tools that answer as commands do, for work in one folder."""
