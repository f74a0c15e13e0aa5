# SPDX-License-Identifier: Apache-2.0
"""Collectives as programs: topologies, schedules of chunks over links, their proof, their run, their time."""
