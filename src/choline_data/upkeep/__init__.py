"""Care of a home: what is damaged, and what nothing refers to any more."""
