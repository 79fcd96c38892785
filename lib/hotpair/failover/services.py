"""Start and stop the services of [failover]: through systemd where it runs, else by their scripts in /etc/init.d."""

import os

from hotpair import child, ini, paths


def start(unit: str, timeout: float) -> str:
    """Start a service, or leave it running. Returns "" or how that failed."""
    return _do("start", unit, timeout)


def stop(unit: str, timeout: float) -> str:
    """Stop a service, or leave it stopped. Returns "" or how that failed."""
    return _do("stop", unit, timeout)


def _do(verb: str, unit: str, timeout: float) -> str:
    if os.path.isdir(paths.under("/run/systemd/system")):  # sd_booted(3)
        return child.run(["systemctl", verb, unit], child.environment(), timeout)
    script = paths.under(f"/etc/init.d/{unit.removesuffix('.service')}")
    if not os.path.exists(script):
        return f"there is no systemd here, and no {script}"
    return ini.untrusted(script) or child.run([script, verb], child.environment(), timeout)
