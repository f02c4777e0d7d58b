"""When a request may be sent, and sent again: backoff, the pause after a rate limit, the pace of a limiter."""
