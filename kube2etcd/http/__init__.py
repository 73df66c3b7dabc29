"""HTTP servers: probes and metrics."""
