# SPDX-License-Identifier: Apache-2.0
"""Sweeps over designs: what to vary, what came of it, and the page that shows it. Evaluation is the device model's."""
