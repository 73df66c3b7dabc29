"""Tests against real servers (API server, etcd, CoreDNS), built from source once, on loopback ports."""
