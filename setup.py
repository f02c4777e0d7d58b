"""Metadata is in setup.cfg, except the long description: the README with links that lead to the repository."""

import re
from pathlib import Path

FORGE = "https://github.com/chatstream-py/chatstream-py"


def long_description() -> str:
    """The README for the package index, which does not have the files that its links name."""

    def absolute(found: re.Match[str]) -> str:
        return f"{found[0]}{FORGE}/{'raw' if found[1] else 'blob'}/main/"

    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    return re.sub(r"(!?)\[[^\]]*\]\((?![a-z]+:|#)", absolute, text)


if __name__ == "__main__":
    from setuptools import setup

    setup(long_description=long_description())
