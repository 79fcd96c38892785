"""Fill the templates of etc/templates: each value stands where the template names it, on a line of its own."""

import os
import string

from hotpair.exits import ConfigFail

PLACE = os.path.realpath(os.path.join(os.path.dirname(__file__), "../../../etc/templates"))


def fill(name: str, **values: object) -> str:
    """Return a template's text with these values. Raises ConfigFail for one that would be more than a value."""
    for key, value in values.items():
        if any(not character.isprintable() for character in str(value)):
            raise ConfigFail(f"{key}: {value!r} cannot stand in a configuration", "use plain names")
    with open(f"{PLACE}/{name}", encoding="utf-8") as file:
        return string.Template(file.read()).substitute(values)
