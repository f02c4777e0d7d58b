"""``chatstream doctor URL``: a base URL → the report of `chatstream.doctor` on stdout."""

from __future__ import annotations

import argparse
import os
from typing import TextIO

from .._imports import imports
from .._requirements import check_installed
from .._secrets import Hidden, masked
from ..errors import MissingEnvVar
from .terminal import escape_controls


def examine(options: argparse.Namespace, out: TextIO) -> None:
    """Examine the server and write the report to ``out``.

    Raises `MissingEnvVar` if the variable that ``--key-env`` names is unset or blank, and what `chatstream.doctor`
    raises.
    """
    with imports():
        check_installed()
        from .._doctor import doctor  # imports the transport, which a question may not need

    key = Hidden(os.environ.get(options.key_env, "").strip()) if options.key_env else None
    if key == "":
        raise MissingEnvVar(masked(options.key_env))
    report = doctor(options.base_url, model=options.model, api_key=key)
    out.write("".join(f"{escape_controls(line)}\n" for line in str(report).splitlines()))
    out.flush()
