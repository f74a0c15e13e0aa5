# SPDX-License-Identifier: Apache-2.0
"""What a port reports: data, page, plots, and files written all at once."""
