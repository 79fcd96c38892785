"""What becomes of a proposed change: the table of cases, and what holds for every case there can be."""

import struct
from base64 import b64encode

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hotpair import acl
from hotpair.decide import Answer, decide, win
from hotpair.scan import State

NODES = ("here", "there")
OLD, NEW = "old" * 16, "new" * 16
BASE = State("file", 3, 0o644, 0, 0, 100, OLD, ())
OURS = BASE._replace(digest="ours", mtime_ns=200)
THEIRS = BASE._replace(digest="theirs", mtime_ns=300)
CHMOD = BASE._replace(mode=0o600, mtime_ns=900)
DIRECTORY = State("directory", 0, 0o755, 0, 0, 0, "", ())
LINK = State("link", 0, 0, 0, 0, 150, "target", ())


def acl_of(group: int, mask: int, user: int = 1234) -> tuple[tuple[str, str], ...]:
    """Return the attribute of a file whose ACL lets its owner and this user read and write."""
    entries = (0x01, 6, -1), (0x02, 6, user), (0x04, group, -1), (0x10, mask, -1), (0x20, 0, -1)
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    return ((acl.ACCESS, b64encode(packed).decode()),)


HAVE, TAKE, LOST, HELD = (Answer(word) for word in ("have", "take", "lost", "held"))
TAKE_OF_TWO, LOST_OF_TWO, HELD_OF_TWO = (Answer(word, conflict=True) for word in ("take", "lost", "held"))

CASES = [  # base, there, here, agreed, from_peer, prefer, answer
    pytest.param(BASE, THEIRS, THEIRS, BASE, False, "newest", HAVE, id="already so"),
    pytest.param(BASE, None, None, BASE, False, "newest", HAVE, id="already gone"),
    pytest.param(None, BASE, BASE, None, False, "hold", HAVE, id="made alike on both nodes"),
    pytest.param(None, THEIRS, None, None, False, "newest", TAKE, id="new to us"),
    pytest.param(BASE, THEIRS, BASE, BASE, False, "newest", TAKE, id="changed there alone"),
    pytest.param(BASE, CHMOD, BASE, BASE, False, "newest", TAKE, id="metadata changed there alone"),
    pytest.param(BASE, LINK, BASE, BASE, False, "newest", TAKE, id="became a link there"),
    pytest.param(BASE, THEIRS, BASE, BASE, False, "hold", TAKE, id="nothing to hold when one changed"),
    pytest.param(BASE, THEIRS, BASE, BASE, False, "here", TAKE, id="nothing to prefer when one changed"),
    pytest.param(BASE, None, BASE, BASE, False, "newest", TAKE, id="deleted there alone"),
    pytest.param(BASE, None, OURS, BASE, False, "newest", LOST_OF_TWO, id="deleted there, edited here"),
    pytest.param(BASE, None, OURS, BASE, False, "there", LOST_OF_TWO, id="deleted by the preferred node"),
    pytest.param(BASE, None, CHMOD, BASE, False, "newest", LOST_OF_TWO, id="deleted there, metadata changed here"),
    pytest.param(OURS, None, OURS, BASE, False, "newest", LOST_OF_TWO, id="deleted there, but never agreed here"),
    pytest.param(None, None, OURS, None, False, "newest", LOST_OF_TWO, id="deleted there, never known to both"),
    pytest.param(BASE, None, OURS, OURS, True, "newest", TAKE, id="deleted there after it sent what we have"),
    pytest.param(BASE, THEIRS, None, BASE, False, "newest", TAKE_OF_TWO, id="edited there, deleted here"),
    pytest.param(BASE, THEIRS, None, BASE, False, "here", TAKE_OF_TWO, id="edited there, deleted by the preferred"),
    pytest.param(BASE, THEIRS, OURS, OURS, True, "here", TAKE, id="its receipt was lost and it changed again"),
    pytest.param(BASE, THEIRS, OURS, OURS, False, "newest", TAKE_OF_TWO, id="agreed here, but not from the peer"),
    pytest.param(BASE, THEIRS, OURS, BASE, False, "newest", TAKE_OF_TWO, id="both edited, theirs newer"),
    pytest.param(BASE, OURS, THEIRS, BASE, False, "newest", LOST_OF_TWO, id="both edited, ours newer"),
    pytest.param(BASE, THEIRS, OURS, BASE, False, "here", LOST_OF_TWO, id="both edited, we are preferred"),
    pytest.param(BASE, OURS, THEIRS, BASE, False, "there", TAKE_OF_TWO, id="both edited, they are preferred"),
    pytest.param(BASE, THEIRS, OURS, BASE, False, "hold", HELD_OF_TWO, id="both edited, a person says"),
    pytest.param(None, THEIRS, OURS, None, False, "newest", TAKE_OF_TWO, id="both made, theirs newer"),
    pytest.param(None, THEIRS, OURS, None, False, "hold", HELD_OF_TWO, id="both made, a person says"),
    pytest.param(BASE, CHMOD, OURS, BASE, False, "newest", LOST_OF_TWO, id="newer metadata there, content here"),
    pytest.param(BASE, CHMOD, OURS, BASE, False, "there", LOST_OF_TWO, id="preferred metadata there, content here"),
    pytest.param(BASE, THEIRS, CHMOD, BASE, False, "newest", TAKE_OF_TWO, id="content there, newer metadata here"),
    pytest.param(BASE, THEIRS, CHMOD, BASE, False, "here", TAKE_OF_TWO, id="content there, preferred metadata here"),
    pytest.param(
        *(BASE, CHMOD, BASE._replace(mode=0o640), BASE, False, "newest", TAKE_OF_TWO),
        id="both changed metadata, theirs newer",
    ),
    pytest.param(BASE, LINK, OURS, BASE, False, "newest", LOST_OF_TWO, id="a link there, a newer file here"),
    pytest.param(
        *(None, DIRECTORY, OURS, None, False, "here", TAKE_OF_TWO), id="a directory there, a preferred file here"
    ),
    pytest.param(None, OURS, DIRECTORY, None, False, "newest", LOST_OF_TWO, id="a file there, a directory here"),
    pytest.param(
        *(DIRECTORY, OURS, DIRECTORY._replace(mode=0o700), DIRECTORY, False, "here", TAKE_OF_TWO),
        id="became a file there, metadata of the directory changed here",
    ),
]


@pytest.mark.parametrize("base, there, here, agreed, from_peer, prefer, answer", CASES)
def test_the_table_of_cases(
    base: State | None,
    there: State | None,
    here: State | None,
    agreed: State | None,
    from_peer: bool,
    prefer: str,
    answer: Answer,
) -> None:
    assert decide(base, there, here, agreed, from_peer, prefer, NODES) == answer


ONE_WAY = [  # base, there, here, agreed, source, answer
    pytest.param(BASE, THEIRS, THEIRS, BASE, "here", HAVE, id="already so"),
    pytest.param(BASE, THEIRS, BASE, BASE, "here", LOST_OF_TWO, id="edited where it is not to be"),
    pytest.param(BASE, None, BASE, BASE, "here", LOST_OF_TWO, id="deleted where it is not to be"),
    pytest.param(None, THEIRS, None, None, "here", LOST_OF_TWO, id="made where it is not to be"),
    pytest.param(BASE, THEIRS, BASE, BASE, "there", TAKE, id="edited by the source alone"),
    pytest.param(BASE, None, BASE, BASE, "there", TAKE, id="deleted by the source alone"),
    pytest.param(None, THEIRS, None, None, "there", TAKE, id="made by the source alone"),
    pytest.param(OURS, BASE, OURS, BASE, "there", TAKE, id="put back, as it was listed already"),
    pytest.param(None, BASE, OURS, OURS, "there", TAKE, id="changed by nobody, and differs"),
    pytest.param(BASE, OURS, THEIRS, BASE, "there", TAKE_OF_TWO, id="edited by both, newer here"),
    pytest.param(BASE, None, OURS, BASE, "there", TAKE_OF_TWO, id="deleted by the source, edited here"),
    pytest.param(BASE, THEIRS, None, BASE, "there", TAKE_OF_TWO, id="edited by the source, deleted here"),
]


@pytest.mark.parametrize("prefer", ["newest", "hold", "here"])
@pytest.mark.parametrize("base, there, here, agreed, source, answer", ONE_WAY)
def test_the_table_of_cases_where_one_node_is_the_source(
    base: State | None,
    there: State | None,
    here: State | None,
    agreed: State | None,
    source: str,
    answer: Answer,
    prefer: str,
) -> None:
    assert decide(base, there, here, agreed, False, prefer, NODES, source) == answer


HALVES = [  # base, half, whole
    pytest.param(BASE, BASE._replace(uid=7), BASE._replace(uid=7, mode=0o600), id="owner given, mode not"),
    pytest.param(
        BASE, BASE._replace(mode=0o600), BASE._replace(uid=7, mode=0o600), id="mode narrowed, owner not given"
    ),
    pytest.param(BASE, BASE._replace(mode=0o644, gid=7), BASE._replace(mode=0o666, gid=7), id="mode not widened yet"),
    pytest.param(BASE, BASE._replace(mode=0o600), BASE._replace(mode=0o620, uid=7), id="some bits taken, none given"),
    pytest.param(BASE, BASE._replace(mode=0o600), CHMOD, id="time not given"),
    pytest.param(
        *(BASE._replace(mode=0o4755), BASE._replace(mode=0o755, uid=7), BASE._replace(mode=0o4755, uid=7)),
        id="set-id bit taken by chown",
    ),
    pytest.param(
        *(BASE, BASE._replace(uid=7), BASE._replace(uid=7, xattrs=(("user.a", "eA=="),))), id="attribute not given"
    ),
    pytest.param(
        BASE._replace(mode=0o664, xattrs=acl_of(6, 6)),
        BASE._replace(mode=0o600, gid=7, xattrs=acl_of(6, 0)),
        BASE._replace(mode=0o664, gid=7, xattrs=acl_of(0, 6, 4321)),
        id="ACL narrowed, the other not given",
    ),
    pytest.param(
        BASE._replace(mode=0o660, xattrs=acl_of(6, 6)),
        BASE._replace(mode=0o640, xattrs=acl_of(6, 4)),
        BASE._replace(mode=0o640),
        id="ACL narrowed, and not removed",
    ),
    pytest.param(*(DIRECTORY, DIRECTORY._replace(uid=7), DIRECTORY._replace(uid=7, mode=0o700)), id="of a directory"),
    pytest.param(LINK, LINK._replace(uid=7), LINK._replace(uid=7, mtime_ns=900), id="of a link"),
]


@pytest.mark.parametrize("prefer", ["newest", "here", "there"])
@pytest.mark.parametrize("base, half, whole", HALVES)
def test_what_a_crash_left_half_given_loses_to_the_whole_of_it(
    base: State, half: State, whole: State, prefer: str
) -> None:
    assert decide(base, whole, half, base, False, prefer, NODES) == TAKE_OF_TWO
    assert decide(base, half, whole, base, False, prefer, NODES) == LOST_OF_TWO
    assert decide(base, whole, half, base, False, "hold", NODES) == HELD_OF_TWO


NO_HALVES = [  # base, changed here, changed there
    pytest.param(BASE, BASE._replace(mode=0o600), BASE._replace(mode=0o666), id="a right that both others have"),
    pytest.param(BASE, BASE._replace(mode=0o666), BASE._replace(mode=0o600), id="a right that neither has"),
    pytest.param(BASE, BASE._replace(uid=7), BASE._replace(uid=8), id="another owner"),
    pytest.param(BASE, BASE._replace(mtime_ns=200), BASE._replace(mtime_ns=300), id="another time"),
    pytest.param(
        *(BASE._replace(xattrs=acl_of(6, 6)), BASE._replace(xattrs=()), BASE._replace(uid=7, xattrs=acl_of(6, 6))),
        id="an ACL that both others have",
    ),
    pytest.param(
        *(BASE._replace(xattrs=(("system.posix_acl_access", "eA=="),)), BASE._replace(uid=7), BASE._replace(uid=8)),
        id="an ACL that is none",
    ),
    pytest.param(None, BASE, BASE._replace(uid=7), id="nothing agreed on"),
]


@pytest.mark.parametrize("base, here, there", NO_HALVES)
def test_two_changes_of_metadata_are_decided_as_preferred(base: State | None, here: State, there: State) -> None:
    assert decide(base, there, here, base, False, "here", NODES) == LOST_OF_TWO
    assert decide(base, there, here, base, False, "there", NODES) == TAKE_OF_TWO


# Few values, so that states meet often in some fields and differ in others.
states = st.builds(
    State,
    kind=st.sampled_from(["file", "link", "directory"]),
    size=st.sampled_from([3, 4]),
    mode=st.sampled_from([0o600, 0o644, 0o4600]),
    uid=st.sampled_from([0, 1]),
    gid=st.just(0),
    mtime_ns=st.integers(0, 2),
    digest=st.sampled_from(["a", "b", "c"]),
    xattrs=st.sampled_from([(), (("user.a", "eA=="),), acl_of(6, 6), acl_of(6, 0)]),
)
maybe = st.none() | states
prefers = st.sampled_from(["newest", "hold", "alpha", "beta"])
names = st.sampled_from([("alpha", "beta"), ("beta", "alpha")])
many = settings(max_examples=1000, deadline=None)


@many
@given(maybe, maybe, maybe, prefers, names)
def test_both_nodes_name_the_same_winner(
    base: State | None, one: State | None, two: State | None, prefer: str, nodes: tuple[str, str]
) -> None:
    assume(one != two)
    assert win(base, one, two, prefer, nodes) == win(base, two, one, prefer, nodes[::-1])


@many
@given(maybe, maybe, maybe, prefers, names)
def test_the_same_state_wins_whichever_node_asks_first(
    base: State | None, alphas: State | None, betas: State | None, prefer: str, nodes: tuple[str, str]
) -> None:
    """Both changed what they had agreed on; neither has heard of the other."""
    assume(len({alphas, betas, base}) == 3)
    to_beta = decide(base, alphas, betas, base, False, prefer, nodes[::-1])
    to_alpha = decide(base, betas, alphas, base, False, prefer, nodes)
    assert {to_beta.action, to_alpha.action} in ({"take", "lost"}, {"held"})
    assert to_beta.conflict
    assert to_alpha.conflict


@many
@given(maybe, maybe, maybe, st.booleans(), prefers, names)
def test_a_delete_is_taken_only_of_what_both_agreed_on(
    base: State | None, here: State | None, agreed: State | None, from_peer: bool, prefer: str, nodes: tuple[str, str]
) -> None:
    answer = decide(base, None, here, agreed, from_peer, prefer, nodes)
    if answer.action == "take":
        assert here == agreed
    elif answer.action == "held":
        assert here is not None


@many
@given(states, states, states, maybe, prefers, names)
def test_a_content_is_never_lost_to_metadata_alone(
    base: State, metadata: State, content: State, agreed: State | None, prefer: str, nodes: tuple[str, str]
) -> None:
    """One node wrote, the other changed but mode, owner or time."""
    metadata = metadata._replace(kind=base.kind, digest=base.digest)
    assume(content.content != base.content and metadata != base and metadata != agreed != content)
    assert decide(base, metadata, content, agreed, False, prefer, nodes).action in ("lost", "held")
    assert decide(base, content, metadata, agreed, False, prefer, nodes).action in ("take", "held")


@many
@given(maybe, maybe, maybe, maybe, st.booleans(), prefers, names)
def test_what_we_changed_ourselves_is_never_replaced_in_silence(
    base: State | None,
    there: State | None,
    here: State | None,
    agreed: State | None,
    from_peer: bool,
    prefer: str,
    nodes: tuple[str, str],
) -> None:
    answer = decide(base, there, here, agreed, from_peer, prefer, nodes)
    if answer.action == "take" and here != agreed:
        assert answer.conflict or here == base
    assert (answer.action == "have") == (here == there)


@many
@given(maybe, states, states, names)
def test_hold_leaves_two_contents_where_they_are(
    base: State | None, there: State, here: State, nodes: tuple[str, str]
) -> None:
    assume(len({base, there, here}) == 3)
    assert decide(base, there, here, base, False, "hold", nodes) == HELD_OF_TWO
