"""`demo`: the story, on this host, with agents of its own."""

from __future__ import annotations

import argparse


def demo(options: argparse.Namespace) -> int:
    from updater.demo.story import run_story

    return run_story(color=options.color)
