"""A validator for the part of JSON Schema that our schema uses. A keyword that it does not know is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_NO_RULES = {"$schema", "title", "description", "default"}


def faults(schema: dict[str, Any], value: Any, at: str = "$") -> list[str]:
    """The places in `value` that break the schema, each with the keyword."""
    return [fault for keyword, rule in schema.items() for fault in _faults(schema, keyword, rule, value, at)]


def _faults(schema: dict[str, Any], keyword: str, rule: Any, value: Any, at: str) -> Iterator[str]:
    if keyword in _NO_RULES:
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match keyword:
        case "type":
            holds = any(_is(value, name) for name in ([rule] if isinstance(rule, str) else rule))
        case "enum":
            holds = value in rule
        case "anyOf":
            holds = any(not faults(one, value, at) for one in rule)
        case "pattern":
            holds = not isinstance(value, str) or re.search(rule, value) is not None
        case "minimum":
            holds = not is_number or value >= rule
        case "maximum":
            holds = not is_number or value <= rule
        case "minItems":
            holds = not isinstance(value, list) or len(value) >= rule
        case "required":
            holds = not isinstance(value, dict) or all(name in value for name in rule)
        case "items":
            for number, item in enumerate(value if isinstance(value, list) else ()):
                yield from faults(rule, item, f"{at}[{number}]")
            return
        case "propertyNames":
            for name in value if isinstance(value, dict) else ():
                yield from faults(rule, name, f"{at}.{name}")
            return
        case "properties":
            for name in rule.keys() & (value.keys() if isinstance(value, dict) else ()):
                yield from faults(rule[name], value[name], f"{at}.{name}")
            return
        case "additionalProperties":
            for name in (value if isinstance(value, dict) else {}).keys() - schema.get("properties", {}).keys():
                if rule is False:
                    yield f"{at}.{name}: additionalProperties"
                else:
                    yield from faults(rule, value[name], f"{at}.{name}")
            return
        case _:
            raise AssertionError(f"the validator does not know {keyword}")
    if not holds:
        yield f"{at}: {keyword}"


def _is(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (not isinstance(value, bool) or name == "boolean")
