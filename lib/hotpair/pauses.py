"""How long to wait before something that failed is tried again: pure, no clock."""


def growing(attempts: int, first: float, most: float) -> float:
    """Return the seconds to wait after so many failures: `first`, doubled by each further one, at most `most`."""
    if attempts < 1:
        return 0.0
    return min(first * 2.0 ** min(attempts - 1, 60), most)  # 2**60 s: any `most` is reached, and no float overflows
