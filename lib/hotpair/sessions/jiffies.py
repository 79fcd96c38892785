"""The kernel's ticks: how many there have been, how many make a second, and how long ago a stamp was.

Stamps of xt_recent are `jiffies`: an unsigned long that begins five minutes before it passes 2^32 (INITIAL_JIFFIES in
include/linux/jiffies.h), which is where it wraps on a 32-bit kernel. It counts the ticks of the monotonic clock, so the
distance between the two stays the same through a boot; it is measured, where we may read it.
"""

import os
import re
import time

COARSE = 6  # CLOCK_MONOTONIC_COARSE of clock_gettime(2): as the last tick left it, so its resolution is one tick
TIMERS = "/proc/timer_list"  # root's
LINE = re.compile(rb"^jiffies: (\d+)$", re.MULTILINE)
AGAIN = 30.0  # seconds after which the distance is measured again: a machine may have been suspended
HEAD = 1 << 16  # bytes of TIMERS that are read; each processor's part has the line


def kernel_bits(machine: str) -> int:
    """Return how long an unsigned long of the kernel is, by uname(2)'s machine."""
    return 64 if "64" in machine or machine in ("s390x", "alpha") else 32


def signed(difference: int, bits: int) -> int:
    """Return the difference of two counters of so many bits, which may have wrapped between the two."""
    half = 1 << (bits - 1)
    return (difference + half) % (1 << bits) - half


class Clock:
    """What `jiffies` is now. It goes on where a 32-bit kernel's wraps."""

    def __init__(self) -> None:
        self.hz = round(1 / time.clock_getres(COARSE))
        self.bits = kernel_bits(os.uname().machine)
        self.tick = 1000 / self.hz  # milliseconds
        self._first = -300 * self.hz % (1 << 32)
        self._distance = 0  # 0.2 s at most, where we may not measure it
        self._measured = -AGAIN

    def now(self) -> int:
        """Return the number of ticks, which may be one off."""
        if time.monotonic() - self._measured >= AGAIN:
            self._measure()
        return self._counted() + self._distance

    def _counted(self) -> int:
        return self._first + round(time.clock_gettime(COARSE) * self.hz)

    def _measure(self) -> None:
        self._measured = time.monotonic()
        found = self._told()
        if found is not None:
            self._distance = signed(found - self._counted(), self.bits)

    @staticmethod
    def _told() -> int | None:
        try:
            with open(TIMERS, "rb", buffering=0) as file:
                text = b""
                while not (found := LINE.search(text)) and (chunk := file.read(HEAD)):
                    text += chunk
        except OSError:  # not root, or a container without it
            return None
        return int(found[1]) if found else None

    def ms(self, ticks: int) -> float:
        """Return ticks as milliseconds."""
        return ticks * self.tick
