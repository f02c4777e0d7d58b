"""The process and its machine: clock, fork-safe locks, imports on first use, process id, frames, loopback hosts."""
