"""The terminal: progress, interrupts, completion."""
