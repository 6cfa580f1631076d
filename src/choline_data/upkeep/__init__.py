"""Maintenance of a home: finds damaged files, and deletes files that nothing refers to any more."""
