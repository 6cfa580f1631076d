"""Process-wide concerns: memory, SIGBUS in mapped files, and limits and pauses for the work of a request."""
