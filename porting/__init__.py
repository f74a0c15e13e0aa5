# SPDX-License-Identifier: Apache-2.0
"""Hugging Face models to ports: configs, checkpoints, validation, reports and the command line."""
