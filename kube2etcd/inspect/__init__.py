"""What operators ask: explain, records, check, report."""
