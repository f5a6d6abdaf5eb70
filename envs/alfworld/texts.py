"""The fixed wordings of ALFWorld's engine and how it lists things; what is seen when is left to `engine`."""

from __future__ import annotations

from collections.abc import Sequence

BANNER = "-= Welcome to TextWorld, ALFRED! =-"
TASK = "Your task is to: "
NOTHING_HAPPENS = "Nothing happens."
HELP = """Available commands:
  look:                             look around your current location
  inventory:                        check your current inventory
  go to (receptacle):               move to a receptacle
  open (receptacle):                open a receptacle
  close (receptacle):               close a receptacle
  take (object) from (receptacle):  take an object from a receptacle
  move (object) to (receptacle):  place an object in or on a receptacle
  examine (something):              examine a receptacle or an object
  use (object):                     use an object
  heat (object) with (receptacle):  heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle):  cool an object using a receptacle
  slice (object) with (object):     slice an object using a sharp object
"""


def joined(names: Sequence[str]) -> str:
    """`a`, or `a, and b`, or `a, b, and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])}, and {names[-1]}"


def listing(names: Sequence[str]) -> str:
    """`nothing`, or the names with articles."""
    return joined([f"a {name}" for name in names]) if names else "nothing"


def room(names: Sequence[str]) -> str:
    """What is seen from the middle of the room."""
    return f"You are in the middle of a room. Looking quickly around you, you see {listing(names)}."


def condition(name: str, hot: bool, cool: bool, clean: bool, sliced: bool, toggled: bool) -> str:
    """What examining an object in hand says."""
    if hot or cool or clean:
        heat = "hot" if hot else "" if not cool else "cool" if clean or sliced else "cold"
        return f"This is a {' and '.join(filter(None, (heat, 'clean' if clean else '')))} {'sliced ' if sliced else ''}{name}."
    if toggled:
        return f"This {name} is on."
    return f"This is a sliced {name}." if sliced else f"There's nothing special about {name}."
