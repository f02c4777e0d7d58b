"""The command line: a question in, the answer streamed to stdout.

    chatstream "question" --provider local
    git diff | chatstream "Review this:" - -m gpt-4.1-mini
    chatstream doctor http://127.0.0.1:8080/v1

Rules:
- stdout has the answer's text and nothing else, in UTF-8 wherever it is not a terminal; all the rest goes to stderr.
- What a terminal would obey (escape sequences, control and bidi characters) reaches none: it is shown, not sent.
- Exit status: 0 done, or nobody reads on; 1 an error in one line; 2 wrong usage; 130 on Ctrl-C. What has come of an
  answer stays on stdout.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from .._version import __version__
from ..client import Client
from ..errors import ChatStreamError, ConfigError, MissingEnvVar
from ..providers.provider import Provider
from ..types.events import OutputTextDelta
from ..types.prompt import Prompt

if TYPE_CHECKING:
    from .._stream import ResponseStream

_KEPT = "\n\t"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on ``argv``, and return its exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    examine = words[:1] == ["doctor"] and any(word.startswith(("http://", "https://")) for word in words)
    options = _doctor_parser().parse_args(words[1:]) if examine else _parser().parse_intermixed_args(words)
    try:
        return _examine(options, _stdout()) if examine else _answer(options, _stdout())
    except KeyboardInterrupt:
        return 130
    except ChatStreamError as error:  # before OSError, which timeouts are too
        return _failed(error)
    except OSError as error:
        # Python flushes stdout once more at exit: give what it could not write somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0 if isinstance(error, BrokenPipeError) else _failed(error)


def _failed(error: Exception) -> int:
    _tell(f"chatstream: {error}")
    return 1


def _tell(text: str) -> None:
    """One line on stderr, if there is one."""
    if sys.stderr is not None:
        print(shown(" ".join(text.split())), file=sys.stderr)


def _stdout() -> TextIO:
    """stdout, made to take every text: a terminal keeps its encoding, what can't be encoded is written as escapes."""
    if sys.stdout is None:
        raise ConfigError("stdout is closed: the answer has nowhere to go")
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    return sys.stdout


def _stdin() -> str:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    return sys.stdin.read() if sys.stdin is not None else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chatstream", description="Ask a model, and stream its answer.")
    parser.add_argument("question", nargs="+", help="what to ask; - stands for what comes in on stdin")
    parser.add_argument("-m", "--model", help="the model's name, as its server knows it")
    parser.add_argument("-s", "--system", help="instructions that the model gets first")
    parser.add_argument("-p", "--provider", default="openai", help="a ready-made provider's id (default: openai)")
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="a TOML file that has the provider as [model_providers.ID]"
    )
    parser.add_argument("--max-tokens", type=int, help="the most that the answer may have")
    parser.add_argument("--temperature", type=float, help="how freely the model chooses its words")
    parser.add_argument("--deadline", type=float, help="seconds that the whole call may take")
    parser.add_argument("--stats", action="store_true", help="usage, finish reason and time on stderr at the end")
    parser.add_argument("--version", action="version", version=f"chatstream {__version__}")
    return parser


def _doctor_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chatstream doctor", description="Ask a server how it streams.")
    parser.add_argument("base_url", help="where its API begins, like http://127.0.0.1:8080/v1")
    parser.add_argument("-m", "--model", help="the model's name, as the server knows it")
    parser.add_argument("--key-env", metavar="NAME", help="the environment variable that holds its key")
    return parser


def _examine(options: argparse.Namespace, out: TextIO) -> int:
    from .._doctor import doctor  # brings all that sends and reads

    key = os.environ.get(options.key_env, "").strip() if options.key_env else None
    if key == "":
        raise MissingEnvVar(options.key_env)
    report = doctor(options.base_url, model=options.model, api_key=key)
    out.write("".join(f"{shown(line)}\n" for line in str(report).splitlines()))
    out.flush()
    return 0


def _answer(options: argparse.Namespace, out: TextIO) -> int:
    piped = _stdin() if "-" in options.question else ""
    question = " ".join(piped if word == "-" else word for word in options.question).strip()
    if not question:
        raise ConfigError("there is no question: give one as an argument, or - and a text on stdin")
    fields = {"max_tokens": options.max_tokens, "temperature": options.temperature}
    given = {name: value for name, value in fields.items() if value is not None}
    provider = Provider.from_toml(options.config, options.provider) if options.config else options.provider
    with Client(provider, model=options.model, deadline=options.deadline) as client:
        with client.stream(Prompt(options.system, question), **given) as stream:
            _print_answer(stream, out)
        if stream.turn.refusal:
            _tell(f"chatstream: the model refused: {stream.turn.refusal}")
        if options.stats:
            _tell(_stats(stream))
    return 0


def _print_answer(stream: ResponseStream, out: TextIO) -> None:
    """The text as it comes; a line end behind it, also when it breaks off, so that what follows begins a line."""
    last = ""
    try:
        for event in stream:
            if isinstance(event, OutputTextDelta) and event.choice == 0:
                last = shown(event.delta) if out.isatty() else event.delta
                out.write(last)
                out.flush()
    finally:
        if last and not last.endswith("\n"):
            out.write("\n")
            out.flush()


def _stats(stream: ResponseStream) -> str:
    turn, timing = stream.turn, stream.timing
    usage = turn.token_usage
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out" if usage else "no usage reported"
    times = f"first after {timing.first_event:.2f} s, {timing.total:.2f} s"
    return f"[{turn.model}: {turn.finish_reason or turn.status}; {tokens}; {times}]"


def shown(text: str) -> str:
    """``text`` with every character that a terminal would obey replaced by a picture of it (U+2400 and U+FFFD)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_picture, text))


def _picture(character: str) -> str:
    if character in _KEPT:
        return character
    code = ord(character)
    if code < 0x20 or code == 0x7F:
        return chr(0x2400 + code) if code < 0x20 else "\u2421"
    # Cc: C1 controls; Cs: lone surrogates, which no terminal can show
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cs") or _reorders(character) else character


def _reorders(character: str) -> bool:
    return character in "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
