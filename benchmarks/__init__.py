"""How fast chatstream is, beside what else reads the same streams: ``python -m benchmarks``; see README.md."""
