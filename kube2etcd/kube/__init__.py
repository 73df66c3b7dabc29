"""Kubernetes client: connection, objects, reflector, store.

Turns bytes into small typed objects and events.  Nothing here knows DNS or etcd.
"""
