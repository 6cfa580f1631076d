"""Binary formats of tables and arrays. The table of known formats recognises them by their first bytes or extension."""
