"""What people hold in their hands: conversations, events, turns and settings. No I/O, no JSON of the wire."""
