"""The speed of chatstream compared with other clients that read the same streams; see README.md."""
