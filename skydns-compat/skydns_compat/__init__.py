"""The contract with the DNS servers: names, records, SkyDNS messages, etcd keys.

Pure: nothing here knows Kubernetes, opens a socket or reads a clock.
"""
