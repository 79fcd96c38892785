"""hotpair: look at the pair, check its configuration, bring an old content back, end a conflict."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise

from hotpair import commands, config, log, options, paths
from hotpair.commands import Argument, Command
from hotpair.exits import ConfigFail, Fail, NoInput

EPILOG = """examples:
  hotpair check                              everything that is wrong in hotpair.ini and syncr.ini
  hotpair status                             is the pair in sync, since when, and what is to be done
  hotpair history /etc/aliases               the contents that are kept of a file
  hotpair restore /etc/aliases 3             put generation 3 in its place, on both nodes
  hotpair conflicts                          what both nodes changed
  hotpair resolve /etc/aliases --take here   let what this node wrote win
  hotpair retry                              what waits for its next attempt is due now
  hotpair tables --dry-run                   what would change in incrond's tables and cron's file
  hotpair import syncr.ini OLD -o NEW        convert a syncr.ini of Syncr's own format
  hotpair import clsync-rules FILE           print the filter of a tree that a rules file of clsync is

exit: 0 done; status: 0 ok, 1 warning, 2 critical; 64 usage, 66 no such path or generation, 73 cannot be written,
      75 left for later (peer away, not yet there), 77 not root, 78 configuration"""


class Unwritten(Fail):
    """A file that was asked for cannot be written."""

    code = os.EX_CANTCREAT


def _check(_: argparse.Namespace) -> int:
    from hotpair import check

    return check.report()


def _status(options: argparse.Namespace) -> int:
    from hotpair import show, status

    try:
        found = status.collect(config.load())
    except ConfigFail as fail:
        if options.json:
            print(json.dumps(show.unusable(fail), indent=1))
        else:
            print(log.escape(f"critical: configuration: {fail}"))
        return status.CRITICAL
    if options.json:
        print(json.dumps(show.as_json(found), indent=1))
    else:
        show.show(found)
    return found.level


def _history(options: argparse.Namespace) -> int:
    from hotpair import restore

    scope, live = restore.locate(config.load(), options.path)
    entries = restore.history(scope, live)
    if options.json:
        print(json.dumps({"path": live, "set": scope.files.name, "contents": restore.as_json(entries)}, indent=1))
    else:
        print("\n".join(restore.as_lines(entries)))
    return os.EX_OK


def _restore(options: argparse.Namespace) -> int:
    from hotpair import restore

    scope, live = restore.locate(config.load(), options.path)
    return restore.restore(scope, live, options.number, options.dry_run)


def _conflicts(options: argparse.Namespace) -> int:
    from hotpair import conflicts

    found = [conflict for _, conflict in conflicts.listed(config.load())]
    if options.json:
        print(json.dumps([conflicts.as_json(conflict) for conflict in found], indent=1))
    for conflict in [] if options.json else found:
        print("\n".join(conflicts.as_lines(conflict)))
    return os.EX_OK


def _resolve(options: argparse.Namespace) -> int:
    from hotpair import conflicts, restore

    scope, live = restore.locate(config.load(), options.path)
    return conflicts.resolve(scope, live, options.take)


def _retry(options: argparse.Namespace) -> int:
    from hotpair import conflicts

    return conflicts.retry(config.load(), options.set)


def _approve(options: argparse.Namespace) -> int:
    from hotpair import brake, run

    scope = run.scope(config.load(), options.of)
    approved = brake.approve(scope)
    if not approved:
        raise NoInput(f"{options.of} holds nothing back", "see `hotpair status`")
    with run.alone(scope, 10.0):
        code = run.run(scope, force=True)
    print(f"{options.of}: {approved} approved{'' if code == os.EX_OK else ': sent as soon as can be'}")
    return code


def _tables(options: argparse.Namespace) -> int:
    from hotpair import watch

    configuration = config.load()
    lines = watch.write(configuration, options.dry_run)
    for line in lines if options.dry_run else _written(lines):
        print(log.escape(line))
    if not options.dry_run and configuration.node.peer.startswith("ssh:"):
        print(f"the peer lets this node in by one line of its /root/.ssh/authorized_keys:\n{_key(configuration.node)}")
    return os.EX_OK


def _written(diff: list[str]) -> Iterator[str]:
    for before, after in pairwise(diff):
        if before.startswith("--- ") and after.startswith("+++ "):
            yield f"removed {before[4:]}" if after == "+++ /dev/null" else f"wrote {after[4:]}"


def _key(node: config.Node) -> str:
    """Return the line that lets this node's key start syncr-receive and nothing else."""
    from hotpair import watch

    file = paths.under(node.ssh_key) + ".pub"
    key = (watch.read(file) or f"(the line in {file}, which ssh-keygen makes)").strip()
    return f'restrict,command="{watch.programs()}/syncr-receive" {key}'


def _import(options: argparse.Namespace) -> int:
    from hotpair import convert, convert_clsync

    converts = {"syncr.ini": convert.convert, "clsync-rules": convert_clsync.convert}
    try:
        with open(options.file, encoding="utf-8", errors="surrogateescape", newline="") as file:
            text = converts[options.what](file.read())
    except OSError as error:
        raise NoInput(f"{options.file}: {error.strerror}", "name the file to convert") from error
    if options.output:
        _write_new(options.output, text)
    else:
        sys.stdout.buffer.write(text.encode(errors="surrogateescape"))  # byte for byte, whatever the locale
    return os.EX_OK


def _write_new(path: str, text: str) -> None:
    """Write a file that must not be there yet, whole or not at all."""
    tmp = f"{path}.{os.getpid()}.tmp"
    try:
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with open(fd, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(tmp, path)
    except FileExistsError as error:
        raise Unwritten(f"{path}: is there already", "name another file, or move it away") from error
    except OSError as error:
        raise Unwritten(f"{path}: {error.strerror}", "name another file") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(tmp)


JSON = Argument(("--json",), {"action": "store_true", "help": "for machines"})
DRY = Argument(("-n", "--dry-run"), {"action": "store_true", "help": "say what would be done, and do nothing"})
PATH = Argument(("path",), {"metavar": "PATH", "help": "a file of a set, as the configuration names it"})
NUMBER = Argument(
    ("number",), {"metavar": "N", "nargs": "?", "type": options.number, "default": 1, "help": "1 when not given"}
)
TAKE = Argument(("--take",), {"choices": ("here", "peer"), "required": True, "help": "whose content shall be live"})
SET = Argument(("set",), {"metavar": "SET", "nargs": "?", "help": "one set; all when none is named"})
OF = Argument(("of",), {"metavar": "SET", "help": "the set that is held"})
WHAT = Argument(("what",), {"choices": ("syncr.ini", "clsync-rules"), "help": "the format that is converted"})
FILE = Argument(("file",), {"metavar": "FILE", "help": "the file to convert"})
OUTPUT = Argument(("-o", "--output"), {"metavar": "OUT", "help": "write it there, where nothing must be yet"})

COMMANDS = {
    "check": Command("say everything that is wrong in the configuration", (), _check),
    "status": Command("say whether the pair is in sync, and what is to be done", (JSON,), _status),
    "history": Command("list the contents that are kept of a file", (PATH, JSON), _history),
    "restore": Command("put a kept content in the place of the live one", (PATH, NUMBER, DRY), _restore),
    "conflicts": Command("list what both nodes changed", (JSON,), _conflicts),
    "resolve": Command("end a conflict", (PATH, TAKE), _resolve),
    "approve": Command("let the deletes and changes of a tree pass that were held as too many", (OF,), _approve),
    "retry": Command("run what waits for its next attempt, or was given up, now", (SET,), _retry),
    "tables": Command("write incrond's tables and cron's file from the configuration", (DRY,), _tables),
    "import": Command("convert a configuration of another program", (WHAT, FILE, OUTPUT), _import),
}


def parser() -> argparse.ArgumentParser:
    return commands.parser("hotpair", __doc__, EPILOG, COMMANDS, required=True)


def main(argv: Sequence[str]) -> int:
    """Do one command. Returns an os.EX_* value, or what `status` found: 0, 1 or 2."""
    log.person = True
    options = parser().parse_args(argv)
    return COMMANDS[options.command].do(options)
