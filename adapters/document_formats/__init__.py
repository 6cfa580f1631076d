"""Formats whose files are documents: pages, notebooks, books and articles."""
