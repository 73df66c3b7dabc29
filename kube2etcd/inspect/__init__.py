"""The read-only commands, and the status page."""
