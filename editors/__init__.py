# SPDX-License-Identifier: Apache-2.0
"""What editors get: a TextMate grammar; an extension of VS Code with it and a client. None of it is in the wheel."""
