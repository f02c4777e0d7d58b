"""When a request may be sent, and sent again: backoff, the pause after a refusal, the pace of a limiter."""
