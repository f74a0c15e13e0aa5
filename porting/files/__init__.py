# SPDX-License-Identifier: Apache-2.0
"""Files from anyone: strict JSON, plain names, writes of all or nothing, progress of long reads."""
