# SPDX-License-Identifier: Apache-2.0
"""Every covered type against every numerics and mode: cells, runs on many processes, what is kept, the status page."""
