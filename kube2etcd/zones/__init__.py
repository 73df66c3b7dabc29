"""One kind of zone a module: objects to records."""
