"""The packages that chatstream needs, as they are installed → nothing, or one `ConfigError` that says what to install.

Rules:
- It is called before the modules that import the packages: with a wrong one, these fail in ways that name no remedy.
- A package is looked at once in a process. The metadata of installed packages is read for a message only.
"""

from __future__ import annotations

import re
from importlib import import_module
from types import ModuleType

from .errors import ConfigError

# module: name of the package, its first version, the next major one; urllib3 comes before requests, which imports it
NEEDED = {
    "urllib3": ("urllib3", (2, 6, 3), 3),
    "requests": ("requests", (2, 32, 4), 3),
    "sseclient": ("sseclient-py", (1, 8), 2),
}
_checked: set[str] = set()


def check_installed(*modules: str) -> None:
    """Raise `ConfigError` unless the packages behind ``modules`` (default: all that a call needs) can be used."""
    for name in modules or NEEDED:
        if name not in _checked:
            _check(name)
            _checked.add(name)


def _check(name: str) -> None:
    package, first, next_major = NEEDED[name]
    try:
        module = import_module(name)
    except ImportError as error:
        raise _wrong(name, f"it can't be imported ({error})") from None
    if name == "sseclient":  # it names no version, and another package has a module of this name
        if not hasattr(getattr(module, "SSEClient", None), "events"):
            raise _wrong(name, f"the package {_found('sseclient')} is in its place", "pip uninstall sseclient; ")
        return
    version = _version(module)
    if not first <= version < (next_major,):
        raise _wrong(name, f"{package} {getattr(module, '__version__', 'of no version')} is installed")


def _version(module: ModuleType) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", getattr(module, "__version__", ""))[:3])


def _wrong(name: str, state: str, before: str = "") -> ConfigError:
    package, first, next_major = NEEDED[name]
    wanted = f"{package}>={'.'.join(map(str, first))},<{next_major}"
    return ConfigError(f"chatstream needs {wanted}, but {state}: {before}pip install '{wanted}'")


def _found(package: str) -> str:
    """The name and the version of an installed package, as far as it is known."""
    from importlib import metadata

    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package
