"""Whom to ask, and as whom: a server's URL, headers, key and habits. Nothing is sent from here."""
