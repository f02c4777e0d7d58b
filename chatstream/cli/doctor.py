"""``chatstream doctor URL``: a server is examined, and the report printed."""

from __future__ import annotations

import argparse
import os
from typing import TextIO

from ..errors import MissingEnvVar
from .terminal import escape_controls


def examine(options: argparse.Namespace, out: TextIO) -> int:
    from .._doctor import doctor  # brings all that sends and reads

    key = os.environ.get(options.key_env, "").strip() if options.key_env else None
    if key == "":
        raise MissingEnvVar(options.key_env)
    report = doctor(options.base_url, model=options.model, api_key=key)
    out.write("".join(f"{escape_controls(line)}\n" for line in str(report).splitlines()))
    out.flush()
    return 0
