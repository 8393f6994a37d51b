"""Threads that run tasks, and what interrupts them: signals and forks."""
