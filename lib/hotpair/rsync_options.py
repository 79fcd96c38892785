"""Which of rsync's options a tree may ask for, and what words its client then asks the other node's end to be run with.

hotpair decides what is sent and gives it its attributes itself; what is left to rsync is how one content travels.
"""

import re

ALLOWED = {
    "-z": "-z|--compress",
    "--compress-choice=zstd|lz4|zlibx|zlib": "--compress-choice=(zstd|lz4|zlibx|zlib)",
    "--compress-level=N": r"--compress-level=\d{1,2}",
    "--bwlimit=RATE": r"--bwlimit=\d{1,9}(\.\d{1,3})?[kKmMgG]?",
    "-W": "-W|--whole-file",
    "--checksum-choice=xxh128|xxh3|xxh64|md5": "--checksum-choice=(xxh128|xxh3|xxh64|md5)",
    "--block-size=N": r"--block-size=\d{3,6}",
    "--no-sparse": "--no-sparse",
    "--preallocate": "--preallocate",
    "--fsync": "--fsync",
}
_ANY = re.compile("|".join(f"(?:{pattern})" for pattern in ALLOWED.values()))
# Its order is that of rsync's own server_options, in which other versions put the same words elsewhere: any will do.
_WORDS = (
    r"--timeout=\d+",
    r"--partial-dir \.partial",
    "--copy-dest BASIS",
    r"--compress-level=\d{1,2}",
    "--compress-choice=(?:zstd|lz4)",
    "--new-compress",
    "--old-compress",
    r"--bwlimit=\d+",
    "--checksum-choice=(?:xxh128|xxh3|xxh64|md5)",
    r"-B\d{3,6}",
    "--preallocate",
    "--fsync",
)
# What the client end may ask the server end to be run with; everything else is refused.
SERVER = re.compile(rf"rsync --server -W?rIS?z?e\.[A-Za-z]+(?: (?:{'|'.join(_WORDS)}))+ \. INBOX")


def allowed(word: str) -> bool:
    """Say whether a tree may ask for this option."""
    return _ANY.fullmatch(word) is not None


def why_not(word: str) -> str:
    """Return why an option is refused that is not on the list."""
    if re.match(r"-[aHAXpogtDEUN]|--(archive|hard-links|acls|xattrs|perms|owner|group|times|devices)", word):
        return "owner, mode, times, ACLs and attributes are hotpair's own business"
    if re.match(r"-[fu]|--(del|exclude|include|filter|files-from|existing|ignore|update|max-|min-)", word):
        return "hotpair decides itself what is sent and what is deleted"
    return "it has no meaning for a content that goes alone, or is not safe"
