"""``python -m m6rec``: the same as the command ``m6rec``."""

from m6rec.cli.app import main

main()
