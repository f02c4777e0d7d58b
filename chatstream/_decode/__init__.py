"""Bytes become events: pure, with no I/O, no clock and no logging."""
