"""Who may ask: each kind of header that a browser or a program sends, and what must not pass."""

from __future__ import annotations

import pytest

from updater.monitoring.request_guard import AllowedNames, is_loopback_host, refusal, refusal_to_change

LOOPBACK = AllowedNames()
OPEN = AllowedNames(own=frozenset({"liutian-01", "10.0.0.7"}), any_address=True)


def asked(host: str | None = "127.0.0.1:2001", names: AllowedNames = LOOPBACK, **headers: str) -> int:
    """The status of a request with these headers; 200: it is answered."""
    environ = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    environ |= {"PATH_INFO": "/"} if host is None else {"PATH_INFO": "/", "HTTP_HOST": host}
    refused = refusal(environ, names)
    return 200 if refused is None else int(refused.status.split()[0])


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:2001", "127.0.0.1", "127.8.8.8:1", "localhost:2001", "LOCALHOST", "[::1]:2001", "localhost:8080"],
)
def test_a_loopback_name_is_ours_whatever_the_port(host: str) -> None:
    """Another port is a tunnel's: ssh -L 8080:127.0.0.1:2001."""
    assert asked(host) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:2001", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.7:2001", "[::2]"],
)
def test_a_foreign_name_that_points_here_is_not_ours(host: str) -> None:
    assert asked(host) == 421


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        " ",
        "127.0.0.1, evil.example",
        "a b",
        "127.0.0.1:",
        "127.0.0.1:x",
        "u@127.0.0.1",
        "::1",
        "127.0.0.1\n",
    ],
)
def test_a_host_that_is_none_is_a_bad_request(host: str | None) -> None:
    assert asked(host) == 400


def test_open_to_others_our_names_and_any_address_are_ours_but_no_other_name() -> None:
    answered = [
        asked(host, OPEN) for host in ("LiuTian-01:2001", "10.0.0.7", "192.168.1.1:2001", "[fe80::1]", "x.example")
    ]
    assert answered == [200, 200, 200, 200, 421]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:2001", 200),
        ("HTTP://127.0.0.1:2001", 200),
        ("http://127.0.0.1:3000", 403),
        ("http://localhost:2001", 403),
        ("https://127.0.0.1:2001", 403),
        ("http://evil.example", 403),
        ("http://127.0.0.1:2001.evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_only_our_own_origin_may_ask(origin: str, status: int) -> None:
    assert asked(origin=origin) == status


@pytest.mark.parametrize(
    ("site", "mode", "dest", "status"),
    [
        ("none", "navigate", "document", 200),
        ("same-origin", "cors", "empty", 200),
        ("cross-site", "navigate", "document", 200),  # a link to the page
        ("cross-site", "navigate", "iframe", 403),
        ("cross-site", "no-cors", "image", 403),
        ("cross-site", "no-cors", "script", 403),
        ("same-site", "cors", "empty", 403),  # another port of localhost
    ],
)
def test_another_site_may_link_to_the_page_and_no_more(site: str, mode: str, dest: str, status: int) -> None:
    assert asked(sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=dest) == status


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"REMOTE_ADDR": "127.0.0.1"}, True),
        ({"REMOTE_ADDR": "127.9.9.9"}, True),
        ({"REMOTE_ADDR": "::1"}, True),
        ({"REMOTE_ADDR": "::ffff:127.0.0.1"}, True),
        ({"REMOTE_ADDR": "10.0.0.8"}, False),
        ({"REMOTE_ADDR": "::ffff:10.0.0.8"}, False),
        ({"REMOTE_ADDR": ""}, False),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}, False),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "for=10.0.0.8"}, False),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_SEC_FETCH_SITE": "none"}, True),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_SEC_FETCH_SITE": "cross-site"}, False),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_SEC_FETCH_SITE": "same-site"}, False),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_REFERER": "http://127.0.0.1:2001/"}, True),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_REFERER": "http://evil.example/"}, False),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_REFERER": "http://127.0.0.1:2001.evil.example/"}, False),
    ],
)
def test_a_reload_is_for_this_machine_and_no_other_page(headers: dict[str, str], allowed: bool) -> None:
    assert (refusal_to_change({"HTTP_HOST": "127.0.0.1:2001", **headers}) is None) == allowed


def test_what_it_is_to_listen_on_loopback() -> None:
    assert [is_loopback_host(host) for host in ("127.0.0.1", "::1", "localhost", "", "0.0.0.0", "10.0.0.7", "x")] == [
        *(True, True, True),
        *(False, False, False, False),
    ]
