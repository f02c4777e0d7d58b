"""A prompt becomes a request body: the only folder that spells the keys of a request."""
