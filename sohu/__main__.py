# SPDX-License-Identifier: Apache-2.0
"""`python -m sohu` is the `sohu` command."""

from sohu.commands.cli import main

raise SystemExit(main())
