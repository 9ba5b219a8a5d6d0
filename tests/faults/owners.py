"""Two or three commands at once on one run folder, also in containers and on other hosts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.faults.children import Child, Ended, in_container
from tests.faults.points import draw_point
from tests.faults.runs import Case, check_tidy, compare_runs, draw_scenario, finish, raise_if_hung
from tests.faults.stops import paused, wait_for
from tests.faults.verdicts import Failed, Verdict, check_message

from mla_lightning.cli.main import main
from mla_lightning.module import MultimodalModule


def counting(action: Callable[[], int | None], path: Path) -> Callable[[], int | None]:
    """Return an action that adds a byte to a file for each batch that it trains."""

    def acting() -> int | None:
        original = MultimodalModule.training_step

        def training_step(self: MultimodalModule, *args: object, **kwargs: object) -> object:
            with path.open("ab") as file:
                file.write(b"x")
            return original(self, *args, **kwargs)

        MultimodalModule.training_step = training_step
        return action()

    return acting


def start_twice(case: Case) -> None:
    """Start a run while another process trains it, or several at the same moment."""
    _start(case, lambda action, number: action)


def start_in_containers(case: Case) -> None:
    """The same, each process in a PID namespace, half of the time with another host name."""
    has_hosts = case.rng.random() < 0.5
    case.what.append("containers" + (" of different hosts" if has_hosts else ""))
    _start(case, lambda action, n: in_container(action, host=f"node{n}" if has_hosts else ""))


def _start(case: Case, contained: Callable[[Callable, int], Callable]) -> None:
    scenario = draw_scenario(case.rng)
    base = case.uninterrupted_run(scenario)
    counter = case.folder / "counter"
    alone = case.uninterrupted(
        f"counted-{scenario.name}",
        lambda folder: counting(lambda: main(scenario.command(folder)), folder / "counter"),
    )
    expected = (alone.folder / "counter").stat().st_size
    command = scenario.command(case.folder / "place")
    case.folder.joinpath("place").mkdir()
    action = counting(lambda: main(command), counter)
    case.what.insert(0, scenario.name)
    if case.index % 2:
        children = [Child(contained(action, n)) for n in range(case.rng.choice((2, 3)))]
        case.fault(f"{len(children)} starts at the same moment")
    else:
        point = draw_point(base.points, case.rng, ("training", "validation", "evaluation"))
        first, ready = paused(action, case.folder, point)
        children = [Child(contained(first, 0))]
        wait_for(children[0], ready)
        children.append(Child(contained(action, 1)))
        case.fault(f"a second start at {point[2]}. {point[1]}")
    ended = [child.wait() for child in children]
    _check(case, ended, counter, expected)
    finish(lambda: main(command))
    compare_runs(base.run, case.folder / "place" / "run")
    check_tidy(base.folder, case.folder / "place")
    for end in ended:
        check_message(end.code, end.output)


def _check(case: Case, ended: list[Ended], counter: Path, expected: int) -> None:
    for end in ended:
        raise_if_hung(end)
    trained = counter.stat().st_size if counter.exists() else 0
    if trained > expected:
        raise Failed(Verdict.DOUBLED, f"{trained} batches were trained in place of {expected}")
    if all(end.code != 0 for end in ended):
        text = "; ".join(f"exit {end.code}: {end.last_line()}" for end in ended)
        raise Failed(Verdict.LOST, f"none of them trained: {text}"[:400])
