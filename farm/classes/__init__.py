# SPDX-License-Identifier: Apache-2.0
"""What transformers' config classes say: defaults, nulls, other names, rotation, and the keys that their code reads."""
