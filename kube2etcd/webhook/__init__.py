"""ExternalDNS's webhook provider: a REST API, a stored state, a hosts file, and events for the reconciler.

call -> api -> provider -> State -> StateStore (etcd, objects of the API server, or a file)
               +-> hosts file
               +-> events of the reconciler -> keys in etcd
"""
