"""One module per kind of zone: objects to records."""
