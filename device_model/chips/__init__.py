# SPDX-License-Identifier: Apache-2.0
"""What a chip is: its description, its numerics, its fitted parameters; the data lies beside the code."""
