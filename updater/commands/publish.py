"""`publish`: lay tarballs out for a web server."""

from __future__ import annotations

import argparse

from updater.commands.context import BROKE, BUSY, NOT_AS_DESIRED, OK, TOOL_MISSING, UsageWrong, palette, say


def publish(options: argparse.Namespace) -> int:
    from probes.errors import ToolMissing
    from updater.publish.desired_file import EntryRefused
    from updater.publish.publish import PublishBusy, PublishRefused
    from updater.publish.signing import SigningFailed

    try:
        return _publish(options)
    except (PublishRefused, EntryRefused) as err:
        raise UsageWrong(str(err)) from None
    except ToolMissing as err:
        return say(TOOL_MISSING, err.message)
    except PublishBusy as err:
        return say(BUSY, str(err))
    except SigningFailed as err:
        return say(BROKE, f"{err}; nothing was published")
    except OSError as err:
        return say(BROKE, f"{err.filename or options.to}: {err.strerror or err}")


def _publish(options: argparse.Namespace) -> int:
    from probes.host.facts import arch
    from updater.lint import output
    from updater.output.text import to_text
    from updater.publish.publish import Order, faults, publish

    for option in ("url", "cmd", "percent"):
        if options.desired is None and getattr(options, option) is not None:
            raise UsageWrong(f"--{option} is of the entry in a desired state: give --desired FILE, too")
    order = Order(
        tarballs=tuple(options.tarballs),
        to=options.to,
        arch=options.arch or arch(),
        name=options.name,
        version=options.version,
        desired=options.desired,
        url=options.url,
        cmd=options.cmd,
        percent=options.percent,
        key=options.key,
    )
    faulty = [report for _, report in faults(order)]
    for report in faulty:
        print(to_text(output.rows(report, eyes=False, quiet=True), palette(options)))
    if faulty:
        return say(NOT_AS_DESIRED, "nothing was published")
    publish(order, print)
    return OK
