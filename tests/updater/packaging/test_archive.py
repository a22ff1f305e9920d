"""The same members are the same bytes."""

from __future__ import annotations

import io
import tarfile

from updater.packaging.archive import Item, write


def test_the_same_items_make_the_same_bytes_in_whatever_order() -> None:
    items = [Item(name="b", content=b"x"), Item(name="a/c", content=b"#!", program=True), Item(name="a/l", link="c")]
    one, other = io.BytesIO(), io.BytesIO()
    write(one, items)
    write(other, items[::-1])
    assert one.getvalue() == other.getvalue()
    one.seek(0)
    with tarfile.open(fileobj=one) as tar:
        members = tar.getmembers()
    assert [(m.name, m.mode, m.uid, m.uname, m.mtime) for m in members] == [
        ("a/c", 0o755, 0, "", 315532800),
        ("a/l", 0o644, 0, "", 315532800),
        ("b", 0o644, 0, "", 315532800),
    ]
