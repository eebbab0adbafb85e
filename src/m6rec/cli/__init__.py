"""The command line: one file for each group of verbs, put together in ``app``."""
