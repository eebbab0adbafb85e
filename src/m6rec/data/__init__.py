"""From raw logs to a frozen Dataset of integer codes, and its splits."""
