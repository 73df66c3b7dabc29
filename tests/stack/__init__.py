"""Tests on real servers: an API server, etcd and CoreDNS, built from source once and run on loopback ports."""
