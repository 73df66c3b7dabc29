"""The loop: events, records, plan, writes."""
