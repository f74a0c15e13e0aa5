# SPDX-License-Identifier: Apache-2.0
"""Operations with addresses: places, instructions, the memory plan, what a kernel is given and what it is."""
