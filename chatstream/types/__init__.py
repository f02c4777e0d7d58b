"""The public values: conversations, events, turns and limits. No I/O, and no request or response formats."""
