"""The names of the modes in which recordings are made, apart because the plugin of pytest imports nothing larger."""

from __future__ import annotations

MODES = ("none", "once", "new_episodes", "all", "rewrite")
DEFAULT_MODE = "once"
