"""Formats whose rows are records of a text. The table of known formats recognises them by their first lines or extension."""
