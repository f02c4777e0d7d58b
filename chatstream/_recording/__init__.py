"""Answers as they arrive ↔ recordings in files: recorded by a client, replayed as a stream or served over HTTP."""
