"""Storage locations: the home, remote files, claims on runs, and protection against unsafe or changing files."""
