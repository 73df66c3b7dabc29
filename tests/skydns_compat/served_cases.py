"""Keys as the layout writes them, and questions of every kind."""

from __future__ import annotations

from itertools import product

from skydns_compat.corefile import CorefileSettings, Subzone
from skydns_compat.names import Name

_TTL = '"priority":65536,"ttl":5'
_C = "/skydns/local/cluster"
_S = f"{_C}/svc/shop"
_ZONE = "shop.svc.cluster.local"

KEYS = {
    _C: "{}",
    f"{_C}/dns": "{}",
    f"{_C}/dns/apex": "{}",
    f"{_C}/dns/ns": "{}",
    f"{_C}/dns/ns/A": '{"host":"10.0.0.10","port":-1,"targetstrip":1,"ttl":5}',
    f"{_C}/dns-version": "{}",
    f"{_C}/dns-version/T": '{"text":"1.1.0","ttl":5}',
    f"{_C}/nt_/svc/shop": "{}",
    f"{_C}/nt_/pod/shop": "{}",
    f"{_S}/web": "{}",
    f"{_S}/web/_tcp/_http": "{}",
    f"{_S}/web/_tcp/_http/A0": f'{{"host":"10.0.0.1","port":80,"targetstrip":3,"group":"L3",{_TTL}}}',
    f"{_S}/web/_tcp/_http/A1": f'{{"host":"fd00::1","port":80,"targetstrip":3,"group":"L3",{_TTL}}}',
    f"{_S}/hdl": "{}",
    f"{_S}/hdl/ep1": "{}",
    f"{_S}/hdl/ep1/A": f'{{"host":"172.16.0.1","port":80,"targetstrip":1,"group":"L3",{_TTL}}}',
    f"{_S}/hdl/_tcp/_http": "{}",
    f"{_S}/hdl/_tcp/_http/ep1/A": f'{{"host":"172.16.0.1","port":80,"targetstrip":1,"group":"L4",{_TTL}}}',
    f"{_S}/ext": '{"host":"ext.example","port":-1,"ttl":5}',
    f"{_S}/alias": '{"host":"web.shop.svc.cluster.local","port":-1,"ttl":5}',
    f"{_C}/pod/shop/1-2-3-4": "{}",
    f"{_C}/pod/shop/1-2-3-4/A": '{"host":"1.2.3.4","ttl":5}',
    # the layout adds these to an alias to a computed Pod name
    f"{_S}/to-pod": '{"host":"9-8-7-6.shop.pod.cluster.local","port":-1,"ttl":5}',
    f"{_C}/pod/shop/9-8-7-6": "{}",
    f"{_C}/pod/shop/9-8-7-6/A": '{"host":"9.8.7.6","ttl":5}',
    # zones beside and below the cluster's
    "/skydns/example/vm": "{}",
    "/skydns/example/vm/dns/apex": "{}",
    "/skydns/example/vm/dns/ns/A": '{"host":"192.0.2.53","port":-1,"targetstrip":1,"ttl":5}',
    "/skydns/example/vm/ns/A": '{"host":"192.0.2.53","port":-1,"ttl":5}',
    "/skydns/example/vm/nt_/guests": "{}",
    "/skydns/example/vm/guests/one": "{}",
    "/skydns/example/vm/guests/one/A": '{"host":"10.10.0.1","port":-1,"ttl":5}',
    f"{_C}/shop": "{}",
    f"{_C}/shop/dns/apex": "{}",
    f"{_C}/shop/web": "{}",
    f"{_C}/shop/web/_tcp/_http": "{}",
    f"{_C}/shop/web/_tcp/_http/A": f'{{"host":"10.0.0.9","port":80,"targetstrip":3,{_TTL}}}',
    "/skydns/arpa/in-addr/10/0/0/1": '{"host":"web.shop.svc.cluster.local","ttl":5}',
}


def words(text: str) -> list[str]:
    return text.split()


_SERVICES = words(
    """
    web.shop hdl.shop ext.shop alias.shop to-pod.shop any.shop none.shop *.shop _http.shop ep1.hdl.shop
    no.hdl.shop /.shop _http._tcp.web.shop _tcp.web.shop _https._tcp.web.shop _http._udp.web.shop
    _http.tcp.web.shop x._http._tcp.hdl.shop ep1._http._tcp.hdl.shop _tcp.none.shop _quic.web.shop
    shop/web /shop shop/web.x www.example.com.shop example.com
    _http._tcp.any.shop _http._tcp.hdl.shop _http._tcp.*.shop _http._tcp.ep1.hdl.shop
    x._http._tcp.web.shop a.b.c.d.web.shop web.any web.none _tcp.shop any.any WEB.Shop
    shop any none * nt _tcp
    """
)
_LONG = [f"{'p' * 62}.tcp", f"{'p' * 63}.tcp", f"_{'p' * 62}.tcp", f"{'p' * 63}._tcp"]
_PODS = words(
    """
    shop none 1-2-3-4.shop 1-2-3-400.shop 9-9-9-9.none x.1-2-3-4.shop *.shop any.shop
    fd00--1.shop --1.shop fd00--.shop 1-2-3-4-5-6-7-8.shop 1--2-3-4-5-6-7.shop 1--2--3.shop
    1-2-3-4-5-6-7--.shop x.shop 1-2-3.shop 9-8-7-6.shop x.9-8-7-6.shop y.x.fd00--1.none
    --1-2-3-4-5-6-7.shop --1-2-3-4-5-6-7-8.shop 1-2-3-4--5-6-7-8.shop 1-2-3-4--5-6-7.shop
    1-2-3-4-5-6-7-8--.shop 1-2-3-4-5-6-7-8-9.shop 1---2.shop --.shop 01-2-3-4.shop -.shop
    """
)
_OTHERS = words(
    """
    svc pod dns ns.dns apex.dns dns-version x.dns-version nt_ svc.nt_ none_ svc/shop pod/shop
    www.example.com de se dn svcx shop web.shop _http._tcp.web.shop none.shop _tcp.web.shop x.web.shop
    shop.svc.nt_ x * any any.dns *.dns x.dns a.ns.dns
    """
)
NAMES = [
    "cluster.local.",
    *(f"{name}.svc.cluster.local." for name in _SERVICES),
    *(f"{name}.web.shop.svc.cluster.local." for name in _LONG),
    *(f"{name}.pod.cluster.local." for name in _PODS),
    *(f"{name}.cluster.local." for name in _OTHERS),
    *words(
        """
        1.0.0.10.in-addr.arpa. 2.0.0.10.in-addr.arpa. 10.in-addr.arpa. in-addr.arpa. 1.ip6.arpa.
        ext.example. unknown.example. x.1.0.0.10.in-addr.arpa.
        vm.example. ns.vm.example. guests.vm.example. one.guests.vm.example. none.vm.example.
        *.guests.vm.example. any.guests.vm.example. /.guests.vm.example. nt_.vm.example.
        """
    ),
]
TYPES = ("A", "AAAA", "CNAME", "SRV", "TXT", "PTR", "MX", "NS", "SOA", "CAA", "HTTPS", "SVCB", "DS", "ANY")
QUESTIONS = list(product(NAMES, TYPES))

SETTINGS = {
    pods: CorefileSettings(
        Name.parse("cluster.local"),
        cache=0,
        ttl=5,
        pods=pods,
        upstream="none",
        health="",
        ready="",
        prometheus="",
        subzones=(
            Subzone(Name.parse("vm.example"), 2, None, name_server=True),
            Subzone(Name.parse("shop.cluster.local"), 1, ordered=True),
        ),
    )
    for pods in ("disabled", "insecure", "verified")
}
