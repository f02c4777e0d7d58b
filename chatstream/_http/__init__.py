"""A request → the bytes of its answer, as they arrive: the only folder that uses requests and urllib3."""
