"""Tests on real servers (an API server, etcd, CoreDNS), built from source once, run on loopback ports."""
