"""Keys and data of nftables' sets and maps: as `nft -j` shows them, and as a command names them. Pure.

A key comes from another node and goes into a script for nft(8), which would look names up and take braces for what they
are: each part of it must be what its type says, or it is not written. The shapes are those of libnftables-json(5).
"""

import json
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")  # nft(8), "lexical conventions"
NUMBER = re.compile(r"(?:[0-9]{1,20}|0x[0-9a-f]{1,32})(?:-(?:[0-9]{1,20}|0x[0-9a-f]{1,32}))?")
WORD = re.compile(r"[a-z][a-z0-9_-]{0,40}")
ETHER = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
INTERFACE = re.compile(r"[A-Za-z0-9_.:@+-]{1,15}\*?")
VERDICT = re.compile(r"accept|drop|continue|return|(?:jump|goto) ([A-Za-z][A-Za-z0-9_.-]*)")
PLAIN = {  # types whose values are numbers, or words that nft has for them
    *("inet_service", "inet_proto", "mark", "ct_state", "ct_dir", "ct_status", "ct_label", "ct_id", "ether_type"),
    *("icmp_type", "icmp_code", "icmpv6_type", "icmpv6_code", "icmpx_code", "iface_index", "iface_type", "devgroup"),
    *("uid", "gid", "realm", "classid", "pkt_type", "dscp", "ecn", "nf_proto", "tcp_flag", "integer", "day"),
}
ANY = "*"  # the element that matches what no other does
JOINT = " . "


class Unsayable(ValueError):
    """A value that must not go into a command, or that has no form there."""


def shown(value: Any) -> str:
    """Return a value of `nft -j` as nft writes it in text, without quotes; one of unknown shape stays JSON."""
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    if isinstance(value, dict) and len(value) == 1:
        [(shape, inner)] = value.items()
        if shape == "concat" and isinstance(inner, list):
            return JOINT.join(map(shown, inner))
        if shape == "prefix" and isinstance(inner, dict):
            return f"{shown(inner.get('addr'))}/{inner.get('len')}"
        if shape == "range" and isinstance(inner, list) and len(inner) == 2:
            return "-".join(map(shown, inner))
        if shape in ("accept", "drop", "continue", "return"):
            return str(shape)
        if shape in ("jump", "goto") and isinstance(inner, dict):
            return f"{shape} {inner.get('target')}"
    return json.dumps(value, separators=(",", ":"))


def types(found: Any) -> tuple[str, ...]:
    """Return the types of a key or of data, as `nft -j` says them: one, a list, or one with points."""
    return tuple(map(str, found)) if isinstance(found, list) else tuple(str(found).split(JOINT))


def said(kinds: Sequence[str], text: str) -> str:
    """Return a value of these types for a command. Raises Unsayable."""
    if len(kinds) == 1:
        return _part(kinds[0], text)
    parts = text.split(JOINT)
    if text == ANY:
        return text
    if len(parts) != len(kinds):
        raise Unsayable(f"it has {len(parts)} parts, not {len(kinds)}")
    return JOINT.join(map(_part, kinds, parts))


def _part(kind: str, text: str) -> str:
    check = CHECKS.get(kind, _plain if kind in PLAIN else None)
    if check is None:
        raise Unsayable(f"values of type {kind} are not carried")
    if text != ANY and not check(text):
        raise Unsayable(f"it is no {kind}")
    return f'"{text}"' if kind == "ifname" and text != ANY else text


def _address(family: int, length: int) -> Callable[[str], bool]:
    """Return what says whether a text is an address, a prefix or a range of a family."""

    def check(text: str) -> bool:
        first, slash, bits = text.partition("/")
        if slash and not (bits.isascii() and bits.isdecimal() and int(bits[:4]) <= length):
            return False
        first, dash, last = first.partition("-")
        if slash and dash:
            return False
        try:
            socket.inet_pton(family, first)
            if dash:
                socket.inet_pton(family, last)
        except (OSError, ValueError):
            return False
        return True

    return check


def _plain(text: str) -> bool:
    return bool(NUMBER.fullmatch(text) or WORD.fullmatch(text))


def _verdict(text: str) -> bool:
    return bool(VERDICT.fullmatch(text))


CHECKS: dict[str, Callable[[str], Any]] = {
    "ipv4_addr": _address(socket.AF_INET, 32),
    "ipv6_addr": _address(socket.AF_INET6, 128),
    "ether_addr": ETHER.fullmatch,
    "ifname": INTERFACE.fullmatch,
    "verdict": _verdict,
}
