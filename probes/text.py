"""Foreign text for people: printable, short, and URLs without their secrets. Pure."""

from __future__ import annotations


def sanitize(text: str | bytes, limit: int | None = None) -> str:
    """Escape what does not print (line ends, control codes, lone surrogates, bytes that are not UTF-8), and shorten to
    `limit` characters without breaking an escape in two."""
    text = _decoded(text)
    if limit is None:
        return text if text.isprintable() else "".join(map(_escaped, text))
    pieces = [_escaped(character) for character in text[: limit + 1]]
    if sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    while sum(map(len, pieces)) > limit - len("..."):
        pieces.pop()
    return "".join(pieces) + "..."


def one_line(text: str | bytes, limit: int = 200) -> str:
    """The same for words that may span lines: each run of white space becomes one blank."""
    return sanitize(" ".join(_decoded(text[: 4 * limit]).split()), limit)


def redact_url(url: str) -> str:
    """An URL without userinfo, query and fragment, where secrets are put; printable, at most 300 characters."""
    from urllib.parse import urlsplit  # here: a worker reads no URL

    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "(an URL that can't be read)"
    if not (parts.scheme and host):
        return f"'{one_line(url, 60)}'" if not set(url) & set("@?") else "(an URL without a host)"
    host = f"[{host}]" if ":" in host else host
    # `http://user:12/34@host/`: a password with a slash has ended up in the path.
    path = "/..." if "@" in parts.path else parts.path
    return one_line(f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{path}", 300)


def _decoded(text: str | bytes) -> str:
    return text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
