# SPDX-License-Identifier: Apache-2.0
"""The time of programs, shown: profiles and sweeps."""
