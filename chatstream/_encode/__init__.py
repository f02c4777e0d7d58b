"""A prompt → a request body. Only this folder knows the keys of a request."""
