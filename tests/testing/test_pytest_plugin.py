"""The plugin gives two fixtures to the tests of any program, and costs the others nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatstream._recording.load import load
from chatstream.testing import text_answer

PAGES = ("test-without-a-server.md", "record-a-model-for-tests.md")
ROOT = Path(__file__).resolve().parents[2]
RECORDED = """
    from chatstream import Client

    def test_answer(chat_recording):
        client = Client(chat_recording("{url}").url, model="m1")
        text = client.stream("{prompt}").collect().text
        client.close()
        assert text == "{text}"
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Any:
    """A function that runs a test file with the plugin, and returns the outcome."""

    def run_file(source: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_app=source)
        # blocks the entry point of an installed package, which would load the same plugin twice
        return pytester.runpytest_inprocess("-p", "no:chatstream", "-p", "chatstream.testing.pytest_plugin", *options)

    return run_file


def recorded(url: str, prompt: str = "Hi", text: str = "one") -> str:
    return RECORDED.format(url=url, prompt=prompt, text=text)


def test_the_fixture_chat_server_answers_in_one_line(run):
    result = run(
        """
        import chatstream

        def test_weather(chat_server):
            chat_server.calls(get_weather={"city": "Oslo"})
            chat_server.says("It rains.")
            client = chatstream.Client(chat_server.url, model="any")
            assert client.stream("Weather?").collect().function_calls[0].name == "get_weather"
            assert client.stream("And?").collect().text == "It rains."
            client.close()
            chat_server.assert_asked("And?", model="any")
            chat_server.assert_all_answered()

        def test_each_test_has_a_server_of_its_own(chat_server):
            assert chat_server.requests == []
        """
    )
    result.assert_outcomes(passed=2)


def test_the_fixture_chat_recording_asks_the_real_server_once(run, serve, pytester):
    real = serve(text_answer("one"), text_answer("two"))
    run(recorded(real.url)).assert_outcomes(passed=1)
    run(recorded(real.url)).assert_outcomes(passed=1)
    assert len(real.requests) == 1
    path = pytester.path / "chat_recordings" / "test_app" / "test_answer.sse"
    assert load(path)[0].status == 200
    run(recorded(real.url, text="two"), "--chat-record-mode=rewrite").assert_outcomes(passed=1)
    assert len(real.requests) == 2


def test_a_test_whose_request_has_changed_fails_with_the_difference(run, serve):
    real = serve(text_answer("one"))
    run(recorded(real.url)).assert_outcomes(passed=1)
    result = run(recorded(real.url, prompt="Ho"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "POST /v1/chat/completions is not in the recording test_answer.sse (--chat-record-mode=rewrite *",
            '-* "content": "Hi",',
            '+* "content": "Ho",',
        ]
    )


def test_a_test_that_swallows_the_refusal_fails_all_the_same(run, serve):
    real = serve(text_answer("one"))
    run(recorded(real.url)).assert_outcomes(passed=1)
    swallowing = f"""
        import urllib.request

        def test_answer(chat_recording):
            server = chat_recording("{real.url}")
            try:
                urllib.request.urlopen(server.url + "/chat/completions", b"{{}}")
            except OSError:
                pass
        """
    result = run(swallowing)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*is not in the recording*"])


def test_the_mode_none_fails_where_nothing_was_recorded(run, serve):
    real = serve(text_answer("one"))
    result = run(recorded(real.url), "--chat-record-mode=none")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*because there is no such file: record it with --chat-record-mode=once"])
    assert not real.requests


def test_the_option_of_pytest_recording_holds_too(run, serve, pytester):
    pytester.makeconftest(
        """
        def pytest_addoption(parser):
            parser.addoption("--record-mode", default=None)
        """
    )
    real = serve(text_answer("one"))
    run(recorded(real.url), "--record-mode=none").assert_outcomes(failed=1)
    run(recorded(real.url), "--record-mode=none", "--chat-record-mode=once").assert_outcomes(passed=1)
    assert len(real.requests) == 1


def test_each_parameter_class_and_name_has_a_recording_of_its_own(run, serve, tmp_path):
    source = """
        import pytest
        from chatstream import Client

        class TestApp:
            @pytest.mark.parametrize("prompt", ["a b/c", "ü"])
            def test_answer(self, chat_recording, prompt):
                for name in ("", "second"):
                    client = Client(chat_recording("{url}", name=name, speed=0).url, model="m1")
                    client.stream(prompt).collect()
                    client.close()
    """.format(url=serve(text_answer("one")).url)
    run(source, f"--chat-recording-dir={tmp_path / 'kept'}").assert_outcomes(passed=2)
    assert len(sorted((tmp_path / "kept" / "test_app").glob("TestApp-test_answer*.sse"))) == 4


APP = """
    import chatstream

    def get_weather(city: str) -> str:
        "The weather in a city."
        return "rain"

    def weather_report(city, base_url):
        prompt = chatstream.Prompt(input=[chatstream.Message("user", f"How is the weather in {city}?")])
        with chatstream.Client(base_url, model="gpt-4.1-mini") as client:
            while True:
                turn = client.stream(prompt, tools=[get_weather]).collect()
                prompt.input += turn.items
                if not turn.function_calls:
                    return turn.text
                prompt.input += [call.output(get_weather(**call.parsed())) for call in turn.function_calls]
"""


def test_the_test_files_of_the_pages_about_tests_pass(run, serve, pytester, monkeypatch):
    pages = [(ROOT / "docs" / "howto" / page).read_text("utf-8") for page in PAGES]
    tests = re.findall(r"<!-- skip: a test file.*?-->\n```python\n(.*?)```", "".join(pages), re.DOTALL)
    assert len(tests) == 2
    real = serve(text_answer("rain"))
    monkeypatch.setenv("OPENAI_BASE_URL", real.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-key-of-the-real-server")
    pytester.makepyfile(app=APP)
    pytester.syspathinsert()
    run("\n\n".join(tests)).assert_outcomes(passed=2)
    monkeypatch.delenv("OPENAI_API_KEY")
    run("\n\n".join(tests), "--chat-record-mode=none").assert_outcomes(passed=2)
    assert len(real.requests) == 1
    recording = pytester.path / "chat_recordings" / "test_app" / "test_the_report_is_short.sse"
    assert "sk-the-key" not in recording.read_text("utf-8")


def test_the_options_are_explained_in_the_help(run):
    result = run("def test_nothing(): pass", "--help")
    result.stdout.fnmatch_lines(["*chatstream*", "*--chat-record-mode={none,once,new_episodes,all,rewrite}*"])
    result.stdout.fnmatch_lines(["*--chat-recording-dir=DIR*"])


def test_a_test_run_that_does_not_use_the_fixtures_loads_nothing_for_them(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_modules():
            assert "chatstream.testing.pytest_plugin" in sys.modules
            heavy = ("requests", "urllib3", "sseclient", "chatstream.client", "chatstream.testing.chat_server")
            assert not [name for name in heavy if name in sys.modules]
        """
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:chatstream", "-p", "chatstream.testing.pytest_plugin"]
    command += ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:cov"]
    done = subprocess.run(
        command, cwd=pytester.path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert "1 passed" in done.stdout, done.stdout


def test_the_plugin_is_an_entry_point_of_the_package():
    from configparser import ConfigParser

    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    assert settings["options.entry_points"]["pytest11"].strip() == "chatstream = chatstream.testing.pytest_plugin"


def test_the_package_lists_its_names_and_refuses_others():
    from chatstream import testing

    assert {"ChatServer", "FaultServer", "ReplayServer", "delta"} <= set(dir(testing))
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match="has no attribute 'MockServer'"):
        testing.MockServer  # noqa: B018
