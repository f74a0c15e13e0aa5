# SPDX-License-Identifier: Apache-2.0
"""From a config to a plan: the zoo's library, what a family lacks, where tensors go."""
