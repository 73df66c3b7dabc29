"""The API server's side: connection, objects, reflector, store.

Bytes come in, small typed objects and events go out.  Nothing here knows DNS or etcd.
"""
