# SPDX-License-Identifier: Apache-2.0
"""Time of operations on a chip: closed forms over arrays of shapes, with a few named parameters each.

Every form is physical (units, tiles, waves, bytes, latencies) and never below the speed of light. Fitted values and
chips lie in `device_model/chips/`. Programs and timelines are in `device_model/timeline/`.
"""
