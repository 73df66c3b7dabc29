"""The processes: settings to parts, and the commands that use them."""
