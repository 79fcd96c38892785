"""Tell a person by mail, once when something begins to fail or fails otherwise, and once when it is well again."""

import json
import os
import re
import time
from email.message import EmailMessage
from typing import Any

from hotpair import child, config, locks, log, paths, watch
from hotpair.exits import ConfigFail

SENDMAIL = "/usr/sbin/sendmail"
TIMEOUT = 60.0  # seconds
SUBJECT = 120  # characters of a failure in a subject


def report(topic: str, failing: str) -> None:
    """Say how a topic fares: failing is "", or a line that says what fails, and any number of lines about it.

    Only the first line tells one failure from another, and numbers in it do not. A mail that could not be handed
    over is tried again the next time.
    """
    paths.make_private(paths.state())
    with locks.state("alerts"):
        topics = _load()
        known = topics.get(topic, {})
        if not failing and not known:
            return
        if failing and known.get("told") and _kind(failing) == known.get("kind"):
            return
        told = _tell(topic, failing, known)
        if failing:
            topics[topic] = {"kind": _kind(failing), "since": known.get("since", time.time()), "told": told}
        elif told:
            del topics[topic]
        watch.replace(_file(), json.dumps(topics, indent=1) + "\n")


def _tell(topic: str, failing: str, known: dict[str, Any]) -> bool:
    """Send a mail, if there is anybody to send it to; say whether that is done with."""
    if not failing and not known.get("told"):
        return True  # nobody has heard of the failure
    try:
        configuration = config.load()
    except ConfigFail as fail:
        log.error(str(fail))
        return False
    to = configuration.hotsync.mail if configuration.hotsync else ""
    if not to or not os.access(paths.under(SENDMAIL), os.X_OK):
        if not log.person:
            log.notice(f"{topic}: {failing.splitlines()[0] if failing else 'all is well again'}")
        return True
    since = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(known.get("since", time.time())))
    mail = message(configuration.node.name, to, topic, failing, since)
    if why := child.run([paths.under(SENDMAIL), "-t", "-oi"], child.environment(), TIMEOUT, bytes(mail)):
        log.error(f"no mail could be sent: {paths.under(SENDMAIL)}: {why}")
    return not why


def message(node: str, to: str, topic: str, failing: str, since: str) -> EmailMessage:
    """Return the mail. Names come from users: nothing in it is more than text. Pure."""
    lines = [log.escape(line) for line in failing.splitlines()] or ["all is well again"]
    mail = EmailMessage()
    mail["To"] = to
    mail["Subject"] = f"hotpair {node}: {topic}: {_ascii(lines[0])[:SUBJECT]}"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n".join([*lines, "", f"{'failing' if failing else 'failed'} since {since}"]) + "\n")
    return mail


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def _kind(failing: str) -> str:
    return re.sub(r"\d+", "0", failing.splitlines()[0])


def _load() -> dict[str, Any]:
    """Return what is known to fail; nothing when the file cannot be read as that, so that it is told again."""
    try:
        found = json.loads(watch.read(_file()) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _file() -> str:
    return paths.state("alerts.json")
