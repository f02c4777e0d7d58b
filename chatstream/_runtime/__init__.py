"""The process and its machine: the clock, fork-safe locks, imports on first use, the process id, loopback hosts."""
