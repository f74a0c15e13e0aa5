# SPDX-License-Identifier: Apache-2.0
"""Many files and a config to one bound program."""
