"""Packages that are missing, too old, too new, or hidden by another one: one `ConfigError` at the first call."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

import chatstream
from chatstream import ConfigError, _requirements
from chatstream.cli.main import main
from chatstream.testing import text_answer

ROOT = Path(__file__).parents[1]
PACKAGED = Path(chatstream.__file__).parents[1]
TOO_OLD = {"urllib3": "1.26.20", "requests": "2.31.0"}


@pytest.fixture(autouse=True)
def _nothing_is_checked_yet(monkeypatch):
    monkeypatch.setattr(_requirements, "_checked", set())


def module(name: str, version: str | None) -> ModuleType:
    """A module as another version of its package would be."""
    made = ModuleType(name)
    if version is not None:
        made.__version__ = version  # type: ignore[attr-defined]
    return made


def test_the_installed_packages_pass_and_are_looked_at_once(monkeypatch):
    _requirements.check_installed()
    monkeypatch.setattr(_requirements, "_check", lambda name: pytest.fail(f"{name} is looked at again"))
    _requirements.check_installed()
    _requirements.check_installed("sseclient")


def test_the_bounds_are_those_that_the_package_declares():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", "utf-8")
    checked = {f"{name}>={'.'.join(map(str, first))},<{below}" for name, first, below in _requirements.NEEDED.values()}
    assert checked == set(settings["options"]["install_requires"].split())


@pytest.mark.parametrize("name", ["urllib3", "requests"])
@pytest.mark.parametrize("version", ["too old", "3.0.0", None])
def test_a_wrong_version_is_named_before_anything_is_sent(serve, connect, monkeypatch, name, version):
    server = serve(text_answer("Fine."))
    client = connect(server)
    found = TOO_OLD[name] if version == "too old" else version
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, name, module(name, found))
        wanted = (
            rf"chatstream needs {name}>=2\.\d+\.\d,<3, but {name} {found or 'of no version'} is installed: pip install"
        )
        with pytest.raises(ConfigError, match=wanted):
            client.stream("?")
        with pytest.raises(ConfigError, match=wanted):
            client.stream("?")
    assert server.requests == []
    assert client.stream("?").collect().text == "Fine."


@pytest.mark.parametrize("name", ["urllib3", "requests", "sseclient"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(connect, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    package = _requirements.NEEDED[name][0]
    with pytest.raises(ConfigError, match=rf"but it can't be imported .*: pip install '{package}>="):
        connect("http://127.0.0.1:9/v1").stream("?")


@pytest.mark.parametrize("version", ["0.0.27", None], ids=["installed", "a file"])
def test_the_other_package_that_is_imported_as_sseclient_is_recognised(connect, monkeypatch, version):
    def find(package: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(package)
        return version

    other = module("sseclient", version)
    other.SSEClient = type("SSEClient", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sseclient", other)
    monkeypatch.setattr(metadata, "version", find)
    found = "sseclient 0.0.27" if version else "sseclient"
    with pytest.raises(
        ConfigError, match=rf"but the package {found} is in its place: pip uninstall sseclient; pip inst"
    ):
        connect("http://127.0.0.1:9/v1").stream("?")


@pytest.mark.parametrize("name", ["read_events", "doctor", "ResponseStream"])
def test_public_names_that_need_a_missing_package_say_so(monkeypatch, name):
    monkeypatch.delitem(vars(chatstream), name, raising=False)
    monkeypatch.setitem(sys.modules, "sseclient", None)
    with pytest.raises(ConfigError, match="chatstream needs sseclient-py"):
        getattr(chatstream, name)


def test_read_events_needs_neither_requests_nor_urllib3(monkeypatch):
    monkeypatch.delitem(vars(chatstream), "read_events", raising=False)
    monkeypatch.setitem(sys.modules, "requests", None)
    monkeypatch.setitem(sys.modules, "urllib3", None)
    assert chatstream.read_events


@pytest.mark.parametrize("arguments", [["doctor", "http://127.0.0.1:9/v1"], ["?", "-p", "ollama", "-m", "m1"]])
def test_the_command_line_prints_which_package_to_install(monkeypatch, capsys, arguments):
    monkeypatch.setitem(sys.modules, "urllib3", module("urllib3", "1.26.20"))
    assert main(arguments) == 1
    assert "but urllib3 1.26.20 is installed: pip install 'urllib3>=" in capsys.readouterr().err


def test_the_error_comes_before_the_modules_that_could_not_be_imported(tmp_path):
    """In a new process, where none of them is loaded yet."""
    (tmp_path / "urllib3.py").write_text("__version__ = '1.26.20'\n")
    code = "import chatstream; chatstream.stream('?', provider='ollama', model='m1')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGED}"},
        cwd=tmp_path,
    )
    assert done.stderr.splitlines()[-1].startswith("chatstream.errors.ConfigError: chatstream needs urllib3>=")
