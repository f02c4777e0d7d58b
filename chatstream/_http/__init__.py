"""A request becomes bytes as they arrive: the only folder that knows requests, urllib3 and http.client."""
