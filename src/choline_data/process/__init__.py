"""What this process does with its memory, its children, and work that somebody waits for."""
