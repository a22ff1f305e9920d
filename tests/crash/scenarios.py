"""The stories that are interrupted: each says what came before, what is wanted, and where it must end."""

from __future__ import annotations

from collections.abc import Callable

from tests.crash.world import Scenario, World

_OLD, _NEW = "1.0.0", "2.0.0"

# A version that is seen started once after each start, and never again: it fails by what it says, not by a time limit.
_NEVER_STAYS_UP = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
start) : >port ;;
stop) rm -f port ;;
status) if [ -e port ]; then rm -f port; echo started; else echo stoped; fi ;;
esac
"""
_ROLLED_BACK = (3, 4)  # the pass that goes back, and those after it


def _nothing(world: World) -> None:
    world.publish(_OLD, extra={"lib/part.txt": b"a part\n"})


def _want_the_old(world: World) -> None:
    world.desire(_OLD)


def _old_runs(world: World) -> None:
    """Installed, seen up and confirmed."""
    _nothing(world)
    _want_the_old(world)
    world.apply()
    world.apply()


def _want_a_new_one(world: World) -> None:
    world.publish(_NEW, extra={"lib/part.txt": b"another part\n"})
    world.desire(_NEW)


def _want_other_content(world: World) -> None:
    world.publish(_OLD, extra={"lib/part.txt": b"the same version, packed again\n"})
    world.desire(_OLD)


def _old_runs_with_config(world: World) -> None:
    _nothing(world)
    world.desire(_OLD, greeting="hello")
    world.apply()
    world.apply()


def _want_another_config(world: World) -> None:
    world.desire(_OLD, greeting="good evening")


def _want_the_config_again(world: World) -> None:
    world.desire(_OLD, greeting="hello")


def _old_is_down(world: World) -> None:
    _old_runs(world)
    world.crash()


def _want_one_that_never_comes_up(world: World) -> None:
    world.publish(_NEW, control=_NEVER_STAYS_UP)
    world.desire(_NEW)


def _want_it_elsewhere(world: World) -> None:
    world.publish(_NEW, extra={"lib/part.txt": b"another part\n"})
    world.desire(_NEW, work_dir=world.elsewhere)


def _want_one_elsewhere_that_never_comes_up(world: World) -> None:
    world.publish(_NEW, control=_NEVER_STAYS_UP)
    world.desire(_NEW, work_dir=world.elsewhere)


def _want_broken_content(world: World) -> None:
    world.publish(_OLD, control=_NEVER_STAYS_UP)
    world.desire(_OLD)


def _two_were_there(world: World) -> None:
    """Three versions are on disk, of which two may stay, and the newest waits to be confirmed."""
    _old_runs(world)
    for version in ("1.1.0", _NEW):
        world.publish(version)
        world.desire(version)
        world.apply()
        if version != _NEW:
            world.apply()


def _go_on(world: World) -> None:
    pass


_BOTH = frozenset({_OLD, _NEW})


def _goes_back(
    name: str,
    begin: Callable[[World], None],
    versions: frozenset[str],
    moved: frozenset[str] = frozenset(),
    places: int | None = None,
) -> Scenario:
    """The old version runs, what is asked for does not come up, and the old one runs again."""
    return Scenario(
        name=name,
        prepare=_old_runs,
        begin=begin,
        ends_at=(_OLD, ""),
        versions=versions,
        codes=_ROLLED_BACK,
        passes=2,
        never_down=False,
        moved=moved,
        places=places,
    )


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="install",
            prepare=_nothing,
            begin=_want_the_old,
            ends_at=(_OLD, ""),
            versions=frozenset({_OLD}),
            runs_before=False,
            never_down=False,
        ),
        Scenario(name="upgrade", prepare=_old_runs, begin=_want_a_new_one, ends_at=(_NEW, ""), versions=_BOTH),
        Scenario(
            name="upgrade with a place",
            prepare=_old_runs,
            begin=_want_a_new_one,
            ends_at=(_NEW, ""),
            versions=_BOTH,
            places=0,  # it is back with the pass that settles
        ),
        Scenario(
            name="replacement",
            prepare=_old_runs,
            begin=_want_other_content,
            ends_at=(_OLD, ""),
            versions=frozenset({_OLD}),
        ),
        Scenario(
            name="replacement by two renames",
            prepare=_old_runs,
            begin=_want_other_content,
            ends_at=(_OLD, ""),
            versions=frozenset({_OLD}),
            never_down=False,  # between the two renames it has no tree, and a disk that fails there keeps it so
            exchange=False,
        ),
        Scenario(
            name="config change",
            prepare=_old_runs_with_config,
            begin=_want_another_config,
            ends_at=(_OLD, "good evening"),
            versions=frozenset({_OLD}),
        ),
        Scenario(
            name="config change that the server takes back",
            prepare=_old_runs_with_config,
            begin=_want_another_config,
            then=_want_the_config_again,
            ends_at=(_OLD, "hello"),
            versions=frozenset({_OLD}),
        ),
        Scenario(
            name="heal, then an upgrade",
            prepare=_old_is_down,
            begin=_want_a_new_one,
            ends_at=(_NEW, ""),
            versions=_BOTH,
            runs_before=False,
        ),
        _goes_back("rollback", _want_one_that_never_comes_up, _BOTH),
        _goes_back("rollback with a place", _want_one_that_never_comes_up, _BOTH, places=1),  # it is kept
        Scenario(
            name="move",
            prepare=_old_runs,
            begin=_want_it_elsewhere,
            ends_at=(_NEW, ""),
            versions=frozenset({_NEW}),
            moved=frozenset({_OLD}),
            ends_elsewhere=True,
        ),
        _goes_back(
            "move that goes back", _want_one_elsewhere_that_never_comes_up, frozenset({_OLD}), moved=frozenset({_NEW})
        ),
        _goes_back("rollback of a replacement", _want_broken_content, frozenset({_OLD})),
        Scenario(
            name="prune",
            prepare=_two_were_there,
            begin=_go_on,
            ends_at=(_NEW, ""),
            versions=frozenset({"1.1.0", _NEW}),
        ),
    )
}
