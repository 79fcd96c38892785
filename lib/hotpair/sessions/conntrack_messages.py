"""One flow entry as the kernel takes it: attributes of ctnetlink (linux/netfilter/nfnetlink_conntrack.h). Pure.

What comes from another node is looked at first. None of it becomes text, so a flow can say nothing but a flow.
"""

import socket
import struct
from typing import Any, NamedTuple

from hotpair.sessions.record import Entry

NEW, DELETE = 0x100, 0x102  # NFNL_SUBSYS_CTNETLINK, and what is to be done
PROTOS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "udplite": socket.IPPROTO_UDPLITE, "gre": 47}
NESTED = 0x8000
ORIG, REPLY, STATUS, PROTOINFO, NAT_SRC, TIMEOUT, MARK, NAT_DST, ZONE = 1, 2, 3, 4, 6, 7, 8, 13, 18
ALIVE = 0b1110  # IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED
LONGEST = 2**31 / 1000  # seconds
# the tuple of one direction: CTA_TUPLE_IP with two addresses, CTA_TUPLE_PROTO with the protocol's number and two ports
V4 = struct.Struct("=HHHHHH4sHH4sHHHHBxxxHHHxxHHHxx")
V6 = struct.Struct("=HHHHHH16sHH16sHHHHBxxxHHHxxHHHxx")


class Unfit(ValueError):
    """This is no flow that can be written."""


class End(NamedTuple):
    """Where the packets of one direction come from and go to."""

    src: bytes
    dst: bytes
    sport: int  # or a key of GRE
    dport: int


class Flow(NamedTuple):
    """What is to be written of one flow."""

    proto: int
    orig: End
    reply: End
    mark: int
    zone: int | None
    zone_orig: int | None
    zone_reply: int | None
    seconds: int


def flow(entry: Entry) -> Flow:
    """Return what an entry says. Raises Unfit."""
    data, left = entry.data, entry.remaining_ms
    proto = PROTOS.get(data["proto"]) if isinstance(data.get("proto"), str) else None
    if proto is None:
        raise Unfit("a protocol whose flows are not carried")
    if left is None:
        raise Unfit("it does not say how long it has left")
    orig, reply = _end(data.get("orig")), _end(data.get("reply"))
    if len({*map(len, (*orig[:2], *reply[:2]))}) > 1:
        raise Unfit("addresses of both families")
    zone, there, back = (
        _number(data[word], 16) if word in data else None for word in ("zone", "zone-orig", "zone-reply")
    )
    seconds = int(min(-(-left // 1000), LONGEST))
    return Flow(proto, orig, reply, _number(data.get("mark", 0), 32), zone, there, back, max(seconds, 1))


def _end(said: Any) -> End:
    if not isinstance(said, list) or len(said) != 4:
        raise Unfit("no two addresses and two ports")
    src, dst, sport, dport = said
    return End(packed(src), packed(dst), _number(sport, 16), _number(dport, 16))


def packed(address: Any) -> bytes:
    """Return the bytes of an address. Raises Unfit."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, TypeError, ValueError) as error:
        raise Unfit("an address that is none") from error


def _number(value: Any, bits: int) -> int:
    if type(value) is not int or value >> bits:
        raise Unfit("a number that is out of its range")
    return value


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute (netlink(7): its length, its type, and what it says, to a multiple of four)."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def family(one: Flow) -> int:
    """Return the family of a flow's addresses."""
    return socket.AF_INET if len(one.orig.src) == 4 else socket.AF_INET6


def identity(one: Flow) -> bytes:
    """Return by what the kernel finds a flow."""
    zone = b"" if one.zone is None else attribute(ZONE, struct.pack("!H", one.zone))
    return _tuple(ORIG, one.proto, one.orig, one.zone_orig) + zone


def state(one: Flow) -> bytes:
    """Return what may change while a flow lives."""
    said = struct.pack(
        "!HHIHHIHHI", *_swapped(STATUS), ALIVE, *_swapped(TIMEOUT), one.seconds, *_swapped(MARK), one.mark
    )
    return said + TCP if one.proto == socket.IPPROTO_TCP else said


def birth(one: Flow) -> bytes:
    """Return what a flow must have from its beginning: the way back, and how addresses and ports are translated.

    The kernel translates only what it is told as a translation; it makes the way back from that itself.
    """
    there, back = one.orig, one.reply
    parts = [_tuple(REPLY, one.proto, End(there.dst, there.src, there.dport, there.sport), one.zone_reply)]
    if (back.dst, back.dport) != (there.src, there.sport):
        parts.append(_translated(NAT_SRC, back.dst, back.dport))
    if (back.src, back.sport) != (there.dst, there.dport):
        parts.append(_translated(NAT_DST, back.src, back.sport))
    return b"".join(parts)


def _swapped(kind: int) -> tuple[int, int]:
    """Return the head of an attribute of four bytes, for a structure in the network's order."""
    return socket.htons(8), socket.htons(kind)


def _tuple(kind: int, proto: int, end: End, zone: int | None) -> bytes:
    layout, source, target = (V4, 1, 2) if len(end.src) == 4 else (V6, 3, 4)
    address = 4 + len(end.src)
    more = b"" if zone is None else attribute(3, struct.pack("!H", zone))
    where = (4 + 2 * address, NESTED | 1, address, source, end.src, address, target, end.dst)
    ports = (28, NESTED | 2, 5, 1, proto, 6, 2, socket.htons(end.sport), 6, 3, socket.htons(end.dport))
    return layout.pack(layout.size + len(more), NESTED | kind, *where, *ports) + more


def _translated(kind: int, address: bytes, port: int) -> bytes:
    least, most = (1, 2) if len(address) == 4 else (4, 5)
    ports = struct.pack("!H", port)
    said = attribute(least, address) + attribute(most, address)
    said += attribute(NESTED | 3, attribute(1, ports) + attribute(2, ports))
    return attribute(NESTED | kind, said)


def _tcp() -> bytes:
    """Return the state ESTABLISHED, and for both directions the flag IP_CT_TCP_FLAG_BE_LIBERAL: this node knows no
    window of a flow that it has not seen begin."""
    liberal = b"\x08\x08"  # nf_ct_tcp_flags: the flag, and that it is meant
    said = attribute(1, b"\x03") + attribute(4, liberal) + attribute(5, liberal)
    return attribute(NESTED | PROTOINFO, attribute(NESTED | 1, said))


TCP = _tcp()
