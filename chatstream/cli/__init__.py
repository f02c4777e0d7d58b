"""The command line: ``chatstream QUESTION`` and ``chatstream doctor URL``, built on the public names only."""
