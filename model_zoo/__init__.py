# SPDX-License-Identifier: Apache-2.0
"""The model zoo: blocks, families and ports as `.sohu` files, with their reports. Data only."""
