# SPDX-License-Identifier: Apache-2.0
"""A program's time on a chip: tasks of a layer class, their prices, their order on engines, and what holds them up."""
