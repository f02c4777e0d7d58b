"""What the process and the machine are asked: the time, locks, imports, which hosts are this machine."""
