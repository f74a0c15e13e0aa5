# SPDX-License-Identifier: Apache-2.0
"""Where models come from: folders, the hub, .gguf files, the demo."""
