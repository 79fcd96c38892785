"""Show a person how far long work is: a bar with rate and time left, at a terminal only."""

from collections.abc import Iterator
from contextlib import contextmanager

from hotpair.detect import Progress


@contextmanager
def shown(title: str) -> Iterator[Progress]:
    """Yield what is to be called with the paths and bytes that are done, and those there are."""
    from rich import console, progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[paths]}"),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console.Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, paths="")

        def report(paths: int, all_paths: int, size: int, all_sizes: int) -> None:
            bar.update(task, completed=size, total=all_sizes, paths=f"{paths}/{all_paths}")

        yield report
