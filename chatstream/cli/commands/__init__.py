"""The commands, one module each: ``parser()`` describes its arguments, ``run(options, out)`` runs it.

A module is imported when its command is run. A new command is a module here and a line in `chatstream.cli.main`.
"""
