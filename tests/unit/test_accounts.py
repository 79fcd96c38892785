"""Users and groups of two nodes, and packages of one that the other lacks: pure decisions."""

import pytest

from hotpair.failover import accounts, logins, software
from hotpair.failover.accounts import Accounts
from hotpair.owners import Owners

ROOT = "root:x:0:0:root:/root:/bin/sh\n"


def node(*users: str, groups: str = "") -> Accounts:
    """Return accounts: "NAME UID" each, with a group of the same name and number; groups: further lines."""
    pairs = [user.split() for user in users]
    passwd = "".join(f"{name}:x:{uid}:{uid}:{name}:/home/{name}:/bin/sh\n" for name, uid in pairs)
    return accounts.parse(ROOT + passwd, "root:x:0:\n" + "".join(f"{name}:x:{uid}:\n" for name, uid in pairs) + groups)


def made(theirs: Accounts, ours: Accounts) -> dict[str, int | None]:
    plan = accounts.plan(theirs, ours)
    assert [group.name for group, _ in plan.groups] == [user.name for user, _ in plan.users]
    return {user.name: number for user, number in plan.users}


@pytest.mark.parametrize(
    "theirs, ours, expected",
    [
        ([], [], {}),
        (["ann 1001"], ["ann 1001"], {}),
        (["ann 1001"], ["ann 1007"], {}),
        (["ann 1001"], [], {"ann": 1001}),
        (["ann 1001"], ["bob 1001"], {"ann": None}),
        (["ann 1001", "eve 1001"], [], {"ann": 1001, "eve": None}),
        ([], ["bob 1001"], {}),
        (["toor 0"], [], None),
    ],
)
def test_who_is_missing_is_made_with_the_same_number_where_it_is_free(theirs, ours, expected) -> None:
    if expected is None:
        assert accounts.plan(node(*theirs), node(*ours)).users == ()
    else:
        assert made(node(*theirs), node(*ours)) == expected


@pytest.mark.parametrize(
    "theirs, ours, expected",
    [
        (["ann 1001"], ["ann 1001"], {}),
        (["ann 1001"], ["bob 1001"], {}),
        (["ann 1001", "bob 1002"], ["ann 1002", "bob 1001"], {1001: 1002, 1002: 1001}),
        (["ann 1001", "twin 1001"], ["ann 1005", "twin 1006"], {1001: 1005}),
    ],
)
def test_who_has_another_number_here(theirs, ours, expected) -> None:
    assert accounts.renumbered(node(*theirs), node(*ours)) == Owners(expected, expected)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "+::::::",
        "-x:x:1:1::/:/bin/sh",
        "a b:x:1:1::/:/bin/sh",
        "ann:x:-1:1::/:/bin/sh",
        "ann:x:4294967295:1::/:/bin/sh",
        "ann:x:٣:1::/:/bin/sh",
        "ann:x:1:1::/",
        "ann\udcff:x:1:1::/:/bin/sh",
    ],
)
def test_a_line_that_is_no_user_is_passed_over(line: str) -> None:
    assert list(accounts.parse(f"{line}\n{ROOT}", "").users) == ["root"]


def test_what_was_read_is_written_without_passwords() -> None:
    passwd = "root:HASH:0:0:root:/root:/bin/sh\nann:HASH:1001:100::/home/ann:\n"
    users, groups = accounts.texts(accounts.parse(passwd, "wheel:HASH:10:ann,-rf,bob\n"))
    assert users == passwd.replace("HASH", "x")
    assert groups == "wheel:x:10:ann,bob\n"


def test_only_ordinary_users_have_hashes_that_travel() -> None:
    found = accounts.hashes("root:R:1:\nann:A:1:\nmysql:!:\nnobody:*:\nghost:G:\n", node("ann 1001", "mysql 105"))
    assert found == {"ann": "A"}


# Who may log in and how


def changed(theirs: Accounts, ours: Accounts) -> dict[str, tuple[str, ...]]:
    return {change.name: change.words for change in logins.changes(theirs, ours)}


@pytest.mark.parametrize(
    "theirs, ours, expected",
    [
        pytest.param(node("ann 1001"), node("ann 1005"), {}, id="another number is no change"),
        pytest.param(
            node("ann 1001", groups="sudo:x:27:ann\nnew:x:30:ann\n"),
            node("ann 1001", groups="sudo:x:27:\n"),
            {"ann": ("-G", "sudo")},
            id="joins a group",
        ),
        pytest.param(
            node("ann 1001", groups="sudo:x:27:\n"),
            node("ann 1001", groups="sudo:x:27:ann\nlocal:x:31:ann\n"),
            {"ann": ("-G", "local")},
            id="leaves a group of both",
        ),
        pytest.param(
            node("ann 1001", groups="sudo:x:27:\n"),
            node("ann 1001", groups="sudo:x:27:ann\n"),
            {"ann": ("-G", "")},
            id="leaves the last group",
        ),
        pytest.param(
            node("mail 8", groups="cert:x:40:mail\nold:x:41:\n"),
            node("mail 8", groups="cert:x:40:\nold:x:41:mail\n"),
            {"mail": ("-a", "-G", "cert")},
            id="a package's user leaves none",
        ),
        pytest.param(node("ann 1001"), node("ann 101", groups=""), {}, id="a package's user here stays as it is"),
        pytest.param(
            node("ann 1001")._replace(users=accounts.parse("ann:x:1001:1001:A,B:/h:/bin/bash\n", "").users),
            node("ann 1001"),
            {"ann": ("-c", "A,B", "-d", "/h", "-s", "/bin/bash")},
            id="login data",
        ),
    ],
)
def test_what_a_restore_changes_of_a_user(
    theirs: Accounts, ours: Accounts, expected: dict[str, tuple[str, ...]]
) -> None:
    assert changed(theirs, ours) == expected


# Packages


def test_packages_that_are_not_installed_but_no_kernel_and_no_option() -> None:
    wanted = (
        "vim 9.0\nlinux-image-6.1.0-13-amd64 6.1\ngrub-pc 2\nfirmware-linux 1\n-o 1\nx;id 1\nlibc6:i386 2\nnginx 1\n\n"
        "gcc-c++ 1\nnginx 2\n"
    )
    assert software.lacking(wanted, {"vim": "8.0"}) == ["gcc-c++", "libc6:i386", "nginx"]
