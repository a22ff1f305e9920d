"""Agents whose `status` says more than the one word of the convention: installed, upgraded, healed and stopped."""

from __future__ import annotations

import sys

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import until

pytestmark = [pytest.mark.slow, pytest.mark.warm]

# The field's most common script: `start` on a running agent fails, so does `stop` on a stopped one, and the pid file is
# removed at once.
COMMON = f"""#!/bin/bash
WORKSPACE=$(cd $(dirname $0)/; pwd)
cd $WORKSPACE
app={NAME}
pidfile=app.pid

function check_pid() {{
    if [ -f $pidfile ];then
        pid=`cat $pidfile`
        if [ -n $pid ]; then
            running=`ps -p $pid|grep -v "PID TTY" |wc -l`
            return $running
        fi
    fi
    return 0
}}

function start() {{
    check_pid
    running=$?
    if [ $running -gt 0 ];then
        echo -n "$app now is running already, pid="
        cat $pidfile
        return 1
    fi
    rm -f port
    nohup {sys.executable} -I -S $WORKSPACE/agent.py $app @version@ port lifetime=600 &> app.log &
    echo $! > $pidfile
    echo "$app started..., pid=$!"
}}

function stop() {{
    kill `cat $pidfile`
    echo "$app stoped..."
}}

function status() {{
    check_pid
    running=$?
    if [ $running -gt 0 ];then
        echo -n "@running@"
        cat $pidfile
    else
        echo "@stopped@"
    fi
}}

case "$1" in start|stop|status) $1 ;; *) exit 1 ;; esac
"""

FORMS = [
    ("running, pid=", "stoped"),
    ("$app now is running, pid=", "stoped"),
    ("$app running, pid=", "$app is stoped"),
    ("falcon-aggregator is running, pid=", "falcon-aggregator is stoped"),
    ("./bin/$app started, pid=", "./bin/$app stopped!"),
    ("$app is running, pid=", "$app is not running"),
]


def lives_through_all(host: Host, control: str) -> None:
    """Install, upgrade, crash and heal, stop: each pass ends well, and the agent is what was asked for."""

    def publish(version: str) -> None:
        host.publish(version, control=control.replace("@version@", version))

    publish("1.0.0")
    host.desire("1.0.0")
    installed = host.apply()
    assert installed.code == 0, installed
    first = host.ask()
    assert first.version == "1.0.0"
    assert host.apply().actions() == ""

    publish("2.0.0")
    host.desire("2.0.0")
    upgraded = host.apply()
    assert upgraded.code == 0, upgraded
    assert host.ask().version == "2.0.0"
    host.settle()

    host.crash()
    healed = host.apply()
    assert (healed.code, healed.actions()) == (0, "start"), healed
    assert host.ask().pid != first.pid
    assert host.meta.heartbeats[-1]["realAgents"][0]["status"] == "started"

    host.desire("2.0.0", cmd="stop")
    stopped = host.apply()
    assert (stopped.code, stopped.actions()) == (0, "stop"), stopped
    until(lambda: host.pid() is None, "it has ended")
    assert host.apply().code == 0
    assert host.meta.heartbeats[-1]["realAgents"][0]["status"] == "stoped"


@pytest.mark.parametrize(("running", "stopped"), FORMS, ids=[running for running, _ in FORMS])
def test_an_agent_whose_status_is_a_sentence(host: Host, running: str, stopped: str) -> None:
    host.configure(watch=0)
    lives_through_all(host, COMMON.replace("@running@", running).replace("@stopped@", stopped))


def test_an_agent_whose_words_the_host_names(host: Host) -> None:
    words = {NAME: {"started": ["alive and well"], "stoped": ["gone for good"]}}
    host.configure(watch=0, status_words=words)
    lives_through_all(
        host, COMMON.replace("@running@", "$app is alive and well, pid=").replace("@stopped@", "gone for good!")
    )


def test_an_agent_whose_script_lacks_the_program_that_looks_is_left_alone(host: Host) -> None:
    """In a container without procps the field's most common script says stoped of what runs: no second copy."""
    control = COMMON.replace("@running@", "running, pid=").replace("@stopped@", "stoped").replace("@version@", "1.0.0")
    host.publish("1.0.0", control=control)
    host.desire("1.0.0")
    assert host.apply().code == 0
    pid = host.pid()
    script = host.home() / "1.0.0" / "control"
    script.write_text(script.read_text().replace("ps -p", "no-such-ps -p"))
    for _ in range(2):
        held = host.apply()
        assert (held.code, held.condition("Ready")) == (3, ("Unknown", "StatusUnknown")), held
        assert "no-such-ps: command not found" in held.out
        assert host.pid() == pid
