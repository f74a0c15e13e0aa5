# SPDX-License-Identifier: Apache-2.0
"""What a number is: formats, numerics as data, packed weights, quantisation."""
