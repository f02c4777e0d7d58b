"""``chatstream chat``: messages from a terminal or a pipe → their answers, in a conversation that is kept in a file.

Rules:
- A message and its answer are added to the file together. If an answer breaks off, or Ctrl-C ends it, the part that
  arrived is kept; if nothing arrived, the message is dropped too.
- On a terminal an error is shown and the conversation goes on; in a pipe it ends the command.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TextIO

from ...client import Client
from ...errors import ChatStreamError, ConfigError
from ...types.items import Message
from ...types.prompt import Prompt
from ..answer import Answers, new_items
from ..arguments import add_output, add_request, add_server, new_parser
from ..conversation import Conversation
from ..line_editor import piped_messages, typed_messages
from ..output import write_events
from ..question import message_of, user_message
from ..report import print_report
from ..settings import client_of
from ..spinner import Spinner
from ..terminal import print_to_stderr

EXAMPLES = """\
  chatstream chat -m gpt-4.1-mini                  # continues the conversation "default"
  chatstream chat -C trip -p local                 # a conversation with another name
  chatstream chat -C ./trip.jsonl                  # a conversation in a file of your choice
  chatstream chat -C trip --new -s "Be brief."     # starts a new one; the old file is renamed
  chatstream chat -C trip "And in winter?"         # one message, one answer
  printf 'Hello\\nAnd you?\\n' | chatstream chat     # each line is a message

A conversation with a name is a file in ~/.local/share/chatstream/conversations. On a terminal, Ctrl-C stops an answer
and keeps the part received, Alt-Enter begins a new line, and Ctrl-D ends the conversation.
"""


def parser() -> argparse.ArgumentParser:
    parser = new_parser("chat", "[options] [MESSAGE]", "Hold a conversation that is kept in a file.", EXAMPLES)
    parser.add_argument(
        "question",
        metavar="message",
        nargs="*",
        help="send this message, print the answer and exit; without it, type messages at a prompt",
    )
    parser.add_argument(
        "-C",
        "--conversation",
        metavar="NAME|FILE",
        default="default",
        help="name or file of the conversation (default: default)",
    )
    parser.add_argument(
        "--new", action="store_true", help="start a new conversation; the old file is renamed with a timestamp"
    )
    add_server(parser)
    add_request(parser)
    add_output(parser)
    parser.set_defaults(json=False, schema=None)
    return parser


def run(options: argparse.Namespace, out: TextIO) -> None:
    """Answer each message on ``out``. Raises `ConfigError`, and the errors of `Client.stream`."""
    conversation = Conversation(options.conversation, new=options.new)
    if options.system:
        conversation.begin(options.system)
    spinner = Spinner(wanted=not options.plain)
    with client_of(options, on_wait=spinner.tick, on_retry=spinner.retry) as client:
        chat = _Chat(client, conversation, Answers(options, spinner), options, out, spinner)
        if options.question:
            chat.reply(user_message(options))
        elif out.isatty() and sys.stdin is not None and sys.stdin.isatty():
            chat.reply_to_typed()
        else:
            chat.reply_to_piped()


@dataclass
class _Chat:
    """What all messages of one command share."""

    client: Client
    conversation: Conversation
    answers: Answers
    options: argparse.Namespace
    out: TextIO
    spinner: Spinner

    def reply_to_typed(self) -> None:
        """Answer messages until Ctrl-D. An error, or Ctrl-C, ends one answer."""
        print_to_stderr(f"[{self.conversation.path}: {len(self.conversation.questions)} messages; Ctrl-D ends]")
        for text in typed_messages(self.conversation.questions):
            try:
                self._reply_to_text(text)
            except ChatStreamError as error:
                print_to_stderr(f"chatstream: {error}")
            except KeyboardInterrupt:
                print_to_stderr("(stopped; the part received is kept)")

    def reply_to_piped(self) -> None:
        """Answer each line of stdin. An error ends the command."""
        empty = True
        for text in piped_messages():
            self._reply_to_text(text)
            empty = False
        if empty:
            raise ConfigError("no message: type one on a terminal, pass one as an argument, or pipe lines into stdin")

    def _reply_to_text(self, text: str) -> None:
        message = message_of(text, self.options)
        self.options.file, self.options.image = [], []  # they belong to the first message
        self.reply(message)

    def reply(self, message: Message) -> None:
        """Send the conversation with one more message, write the answer, and keep both."""
        answer = None
        length = len(self.conversation.items)
        prompt = Prompt(input=[*self.conversation.items, message])
        try:
            self.spinner.start()
            with self.answers.open(self.client, prompt) as answer:
                write_events(self.answers.shown(answer), self.options, self.out, self.spinner)
        finally:
            self.spinner.stop()
            if answer is not None and (added := new_items(answer, prompt, length)):
                self.conversation.add(added)
        print_report(answer.turn, self.options)
