"""Many prompts: an iterable of prompts → results, as they finish, and once each in a file."""
