"""The command line: ``chatstream QUESTION``, ``chatstream chat`` and the other `commands`, one file each."""
