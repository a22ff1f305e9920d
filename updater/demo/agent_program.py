"""The demo's agent: a small daemon that says over TCP who it is. Started by its `control`, in its own folder.

    agent.py NAME VERSION PORT_FILE [HABIT=VALUE ...]

It is packed into tarballs (tarball.py; tests make others, with bad habits) and never imported. It imports next to
nothing, so that hundreds of starts in a test cost little; its caller says with which interpreter.
"""

import os
import signal
import socket
import sys
import time


def say(words: str) -> None:
    print(time.strftime("%H:%M:%S"), words, flush=True)


def read_greeting() -> str:
    """Read `greeting` from cfg.json, if that file is there. A broken one ends the start: so do real agents."""
    if not os.path.exists("cfg.json"):
        return ""
    import json  # 5 ms, so only where there is a config

    with open("cfg.json", encoding="utf-8") as file:
        return str(json.load(file).get("greeting", ""))


def end(signum: int, frame: object) -> None:
    raise SystemExit(0)


def crash(signum: int, frame: object) -> None:
    say("crashing")
    os._exit(1)


def main(name: str, version: str, port_file: str, *options: str) -> None:
    habits: dict[str, float] = {
        "port": 0,
        "slow_start": 0,
        "slow_stop": 0,
        "ignores_term": 0,
        "crash_after": 0,
        "lifetime": 0,
    }
    for option in options:
        habit, _, value = option.partition("=")
        habits[habit] = float(value)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if habits["ignores_term"] else end)
    signal.signal(signal.SIGALRM, crash)
    # The lifetime, so that an agent which a broken test leaves behind ends by itself.
    signal.setitimer(signal.ITIMER_REAL, habits["crash_after"] or habits["lifetime"] or 3600)
    try:
        serve(name, version, port_file, habits)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(habits["slow_stop"])
        say(f"{name} {version} ends")


def serve(name: str, version: str, port_file: str, habits: dict[str, float]) -> None:
    greeting = read_greeting().replace("\n", " ")
    time.sleep(habits["slow_start"])
    with socket.create_server(("127.0.0.1", int(habits["port"]))) as listening:
        # By a rename, so that a port file is never seen half written.
        with open(f"{port_file}.{os.getpid()}", "w") as file:
            file.write(f"{listening.getsockname()[1]}\n")
        os.replace(file.name, port_file)
        say(f"{name} {version} listens")
        answer = f"name={name}\nversion={version}\npid={os.getpid()}\ngreeting={greeting}\n".encode()
        while True:
            asker, _ = listening.accept()
            with asker:
                try:
                    asker.sendall(answer)
                except OSError:
                    say("an asker left before its answer")


if __name__ == "__main__":
    main(*sys.argv[1:])
