"""What may have a file's name and is none."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        there = os.getcwd()
        os.chdir(path.parent)  # a socket's path is short
        try:
            one.bind(path.name)
        finally:
            os.chdir(there)


def make_folder(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


ODD = [make_fifo, make_socket, make_folder, make_dangling_link, make_loop]
