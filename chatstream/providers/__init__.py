"""Settings of servers: where a request goes, and how each server differs. Nothing is sent from this folder."""
