"""What a prompt may be made of."""

from __future__ import annotations

import pytest

from chatstream import ConfigError, Message, Prompt


def test_a_prompt_is_made_of_a_str_a_list_or_a_prompt():
    assert Prompt.of("Hi") == Prompt(input="Hi") == Prompt(input=[Message("user", "Hi")])
    assert Prompt.of([]) == Prompt() == Prompt(input="")
    prompt = Prompt("Be brief.", (Message("user", "Hi"),))
    assert Prompt.of(prompt) is prompt
    assert prompt.input == [Message("user", "Hi")]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prompt.of(None), "a prompt must be a str, a list of messages or a Prompt, not None"),
        (lambda: Prompt.of(5), "a prompt must be a str, a list of messages or a Prompt, not int 5"),
        (lambda: Prompt(input={"role": "user"}), "input must be a list, not dict {'role': 'user'}"),
        (lambda: Prompt(tools="f"), "tools must be a list, not str 'f'"),
        (lambda: Prompt(instructions=b"x"), "instructions must be a str or None, not bytes"),
    ],
)
def test_a_prompt_of_another_type_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
