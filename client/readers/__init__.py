"""Where samples come from: a home in this process, or servers."""
