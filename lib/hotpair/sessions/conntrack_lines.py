"""What conntrack(8) lists with `-o extended`, as entries. Pure.

That form has the marks, which `-o save` leaves out, and is less than a third as long as `-o xml`. Only
flows are told that another node can go on with: replied to and assured, TCP only while it is established.

    ipv4     2 tcp      6 299 ESTABLISHED src=A dst=B sport=1 dport=2 src=B dst=A sport=2 dport=1 [ASSURED] mark=7 use=1
"""

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from hotpair.sessions.backend import TableError
from hotpair.sessions.record import Entry

ESTABLISHED = "ESTABLISHED"
OFFLOADED_MS = 300_000.0  # of a flow in a flow table (nft(8)), whose timeout is not told: it is alive, though
TUPLE = r"src=(\S+) dst=(\S+) (?:sport|srckey)=(\w+) (?:dport|dstkey)=(\w+) (?:zone-(?:orig|reply)=(\d+) )?"
COUNTED = r"(?:packets=\d+ bytes=\d+ )?"
FLOW = re.compile(
    r"ipv[46] +\d+ (tcp|udp|udplite|gre) +\d+ (?:(\d+) )?(?:([A-Z]\w+) )?"
    rf"{TUPLE}{COUNTED}{TUPLE}{COUNTED}\[(ASSURED|OFFLOAD|HW_OFFLOAD)\] (?:mark=(\d+) )?(.*)"
)
ZONE = re.compile(r"\bzone=(\d+)")
ROW = "ipv4 ", "ipv6 "


def entries(text: str, own: Collection[str]) -> Iterator[Entry]:
    """Yield the flows of a listing. own: the addresses of the node that lists. Raises ValueError for what is no row."""
    if text and not text.endswith("\n"):
        raise ValueError("the last row is not whole")
    for row in text.splitlines():
        found = FLOW.match(row)
        if found is None:
            if not row.startswith(ROW):
                raise ValueError(f"a row that is no flow: {row[:80]!r}")
            continue
        proto, left, state, *rest = found.groups()
        src, dst = rest[0], rest[1]
        if (proto == "tcp" and state != ESTABLISHED and rest[10] == "ASSURED") or _within(src, dst, own):
            continue
        data = _data(proto, rest, own)
        yield Entry(_key(data), remaining_ms=int(left) * 1000.0 if left else OFFLOADED_MS, data=data)


def _within(src: str, dst: str, own: Collection[str]) -> bool:
    """Say whether a flow never leaves the node."""
    return src.startswith("127.") or (src in own and dst in own)


def _key(data: dict[str, Any]) -> str:
    src, dst, sport, dport = data["orig"]
    key = f"{data['proto']} {src} {sport} > {dst} {dport}"
    if "zone" in data or "zone-orig" in data:
        key += "".join(f" {word} {data[word]}" for word in ("zone", "zone-orig") if word in data)
    return key


def _data(proto: str, rest: list[Any], own: Collection[str]) -> dict[str, Any]:
    src, dst, sport, dport, zone_there, to_src, to_dst, to_sport, to_dport, zone_back, _, mark, tail = rest
    data: dict[str, Any] = {
        "proto": proto,
        "orig": [src, dst, int(sport, 0), int(dport, 0)],
        "reply": [to_src, to_dst, int(to_sport, 0), int(to_dport, 0)],
    }
    if mark and mark != "0":
        data["mark"] = int(mark)
    if zone_there:
        data["zone-orig"] = int(zone_there)
    if zone_back:
        data["zone-reply"] = int(zone_back)
    if "zone=" in tail and (zone := ZONE.search(tail)):
        data["zone"] = int(zone[1])
    if src in own or dst in own:
        data["own"] = "src" if src in own else "dst"
    return data


def addresses(said: str) -> frozenset[str]:
    """Return the addresses in what `ip -j address` says. Raises TableError."""
    try:
        return frozenset(
            one["local"] for device in json.loads(said) for one in device.get("addr_info", ()) if "local" in one
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise TableError("ip(8) says what are no addresses") from error
