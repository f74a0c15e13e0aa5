"""`python -m porting` is the `sohu` command."""

from porting.cli import main

raise SystemExit(main())
