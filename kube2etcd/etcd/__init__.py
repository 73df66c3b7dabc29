"""The neighbour etcd, API v3: wire facts, connection, errors, and a store of keys.

Only ``connection`` imports ``etcd3`` and ``grpc``; the rest of the program knows ``EtcdSettings``,
``connect`` and ``EtcdStore``.  Nothing here knows Kubernetes, DNS or what a value means.
Nothing is imported here, so that a command that needs no etcd does not pay for gRPC.
"""
