"""Check the sizes, prices and widths that the design promises (P1). Exit 1 names each fault.

    check_budgets.py [CHECKOUT]     print the sizes, look for faults
    check_budgets.py --prune        shorten the list of known faults by those that are mended

Lines are counted as `wc -l` counts them, blank ones and comments included. The limits and their reasons
stand in `budgets/limits.py`. Standard library only, so that `./core_agent_lines.sh` works in a bare checkout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from budgets import known, limits
from budgets.handlers import handler_faults, unfinished_faults
from budgets.hello import Hello, measure_hello
from budgets.limits import Ratchet
from budgets.sizes import lines_of_rooms, lines_of_spine, measure_sizes
from budgets.source import Measure, SourceFile, read_sources
from budgets.widths import measure_widths

# What the rule "everything but channels, cli and providers" would count: the seed's own measure of its core.
SEED_LEAVES_OUT = ("channels", "cli", "providers")


def ratchets(sources: Sequence[SourceFile], hello: Hello | None) -> Iterator[tuple[str, int, Ratchet]]:
    yield "spine", lines_of_spine(sources), limits.SPINE
    if hello is not None:
        yield "hello files", hello.files, limits.HELLO_FILES
        yield "hello lines", hello.lines, limits.HELLO_LINES
    yield "total", sum(source.lines for source in sources), limits.TOTAL


def print_sizes(sources: Sequence[SourceFile], hello: Hello | None) -> None:
    for name, lines, ratchet in ratchets(sources, hello):
        print(f"{name:<12}{lines:>7}  of {ratchet.now:>6}, to become {ratchet.target}")
    if hello is None:
        print("hello             ?  `make dev` sets up what it takes to measure one")
    else:
        print(f"{'wire':<12}{hello.wire_lines:>7}  that the wire of a real provider adds to a hello")
    seed = sum(source.lines for source in sources if source.room not in SEED_LEAVES_OUT)
    print(f"{'core':<12}{seed:>7}  as the seed counts: all but {', '.join(SEED_LEAVES_OUT)}\n")
    for room, lines in lines_of_rooms(sources).items():
        print(f"{room:<12}{lines:>7}  of {limits.ROOMS.get(room, 0):>6}")


def size_faults(sources: Sequence[SourceFile], hello: Hello | None) -> Iterator[str]:
    for name, lines, ratchet in ratchets(sources, hello):
        if lines > ratchet.now:
            yield f"{name}: {lines}, at most {ratchet.now} (scripts/budgets/limits.py)"
    for room, lines in lines_of_rooms(sources).items():
        over = lines - limits.ROOMS.get(room, 0)
        if over > 0:
            yield f"{room}: {lines} lines, {over} more than scripts/budgets/limits.py allows"


def measures_of(sources: Sequence[SourceFile]) -> list[Measure]:
    return [*measure_sizes(sources), *measure_widths(sources)]


def prune(root: Path) -> None:
    known.write_known(root, known.pruned(measures_of(read_sources(root)), known.read_known(root)))


def main(arguments: list[str]) -> int:
    root = Path(__file__).resolve().parent.parent
    if arguments == ["--prune"]:
        prune(root)
        return 0
    if arguments:
        root = Path(arguments[0])
    try:
        sources = read_sources(root)
    except SyntaxError as error:
        print(f"{error.filename}:{error.lineno}: {error.msg}", file=sys.stderr)
        return 1
    hello = measure_hello(root)
    print_sizes(sources, hello)
    faults = [*size_faults(sources, hello), *known.faults(measures_of(sources), known.read_known(root))]
    faults += [fault for source in sources for fault in unfinished_faults(source)]
    faults += handler_faults(sources)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
