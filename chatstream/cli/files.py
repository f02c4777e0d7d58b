"""Names of files and of objects in modules → text, and objects."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from .._runtime.imports import imports
from ..errors import ConfigError


def read_text(path: str, hint: str = "") -> str:
    """The text of a file. Raises `ConfigError` if it can't be read, or is not UTF-8, with ``hint`` at the end."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from None
    except ValueError:  # not UTF-8, or a NUL in the path
        raise ConfigError(f"{path} is not UTF-8 text{hint}") from None


def imported(reference: str) -> Any:
    """The object that ``reference`` names, such as ``weather:get_weather``. Raises `ConfigError` that says why not."""
    module_name, colon, names = reference.partition(":")
    if not (colon and module_name and names):
        raise ConfigError(f"{reference} must be module:name, such as weather:get_weather")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        with imports():
            found = import_module(module_name)
        for name in names.split("."):
            found = getattr(found, name)
    except AttributeError as error:
        raise ConfigError(f"{reference} does not exist: {error}") from None
    except ModuleNotFoundError as error:
        searched = "searched: the current directory and the installed packages"
        raise ConfigError(f"{reference} can't be imported: {error} ({searched})") from None
    except (Exception, SystemExit) as error:  # whatever the code of the module raises
        raise ConfigError(f"{reference} can't be imported: {type(error).__name__}: {error}") from None
    return found
