# SPDX-License-Identifier: Apache-2.0
"""Nodes: processes that each have some chips of a mesh, who starts and watches them, what is done when one dies."""
