"""ExternalDNS's webhook provider: a door for its calls, the state that it tells us, and a hosts file.

    call -> messages -> provider -> State -> keeper (etcd, objects of the API server, or a file)
                                      |
                                      +-> published names -> hosts file
                                                          -> inbox of the reconciler -> keys in etcd

`messages`, `refusals`, `adjust`, `state`, `state_objects`, `shards`, `published` and `hosts_block` are pure;
`hosts_file`, the keepers and `door` touch the world, one neighbour each; `provider` is the single writer,
`publication` knows the places that it writes to, `troubles` what is wrong with them.  `wiring` builds these
from settings, for `command` (the webhook by itself) and `within_run` (in the bridge's process).
"""
