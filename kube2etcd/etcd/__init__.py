"""The neighbour etcd, API v3 and v2: wire facts, connections, errors, and a store of keys for each.

Only ``channel`` imports ``etcd3`` and only ``connection`` imports ``grpc``; the rest of the program knows
``EtcdSettings``, ``connect`` and ``EtcdStore``.  Nothing here knows Kubernetes, DNS or what a
value means.  Nothing is imported here, so that a command that needs no etcd does not pay for gRPC.
"""
