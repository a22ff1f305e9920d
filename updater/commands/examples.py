"""The ends of the help texts: what may be typed, what it is for, and the exit codes."""

from __future__ import annotations

_GOES_ON = "\\\n      "  # a command that goes on in the next line
# What is typed, and what it is for.
_EXAMPLES: dict[str, dict[str, str]] = {
    "": {
        "updater demo": "see all of it, on this machine alone",
        "updater plan": "what would be done, and why",
        "updater apply": "do it, and wait until all is well",
        "updater why NAME": "one agent in full, when it is not",
    },
    "plan": {
        "updater plan": "all agents",
        "updater plan falcon-agent -o json": "one, for a program",
        "updater plan --detailed-exitcode -q": "for a script: 2 where something is pending, silent where nothing is",
        "updater plan --desired new.json": "what this answer would do",
        "updater plan --observed snapshots/*.json --desired new.json": "what it would do to these hosts",
        "updater plan --out p.json": "keep it, for `updater apply --plan p.json`",
    },
    "apply": {
        "updater apply": "until all is as desired and kept running for its watch",
        "updater apply --once falcon-agent": "one pass, one agent",
        "updater apply --plan p.json": "what `updater plan --out p.json` saved, or nothing",
        "*/5 * * * * updater -c /opt/ops-updater/cfg.json apply --once --splay 200": "a line of cron",
    },
    "daemon": {
        "updater -c cfg.json daemon": "what `./control start` runs in the background",
        "updater --log-level debug daemon --now": "watch it work",
    },
    "status": {
        "updater status": "all agents, by their own control scripts",
        "updater status -o json > host.json": "for a program",
        "updater status --observed statuses/*.json": "how these hosts are, in groups",
        "updater status -q --detailed-exitcode": "for monitoring: silent, and 0, where all is well",
    },
    "help": {"updater help": "all commands", "updater help plan": "one of them"},
    "demo": {"updater demo": "seven acts; Ctrl-C ends it and leaves nothing behind"},
    "history": {"updater history": "all agents, the newest last", "updater history falcon-agent -o json": ""},
    "why": {"updater why falcon-agent": "with what its control script said when it failed last"},
    "logs": {"updater logs falcon-agent": "why it died, in its own words", "updater logs falcon-agent -f -n 100": ""},
    "hold": {
        'updater hold falcon-agent --reason "debugging a leak" --for 2h': "",
        "updater hold --all --reason freeze": "until `updater release --all`",
    },
    "release": {"updater release falcon-agent": "", "updater release --all": "ends `hold --all`, and nothing else"},
    "rollback": {
        "updater rollback falcon-agent": "`updater why falcon-agent` names the version",
        "updater rollback falcon-agent --to 1.2.0": "",
        "updater release falcon-agent": "ends it: as the server wants again",
    },
    "check": {
        "updater check": "before the first start, and when something is odd",
        "updater check -q || echo 'something is to be mended'": "",
        "updater check -o json": "",
    },
    "config": {
        "updater config show": "each key, its value, and where that is from",
        "updater config show -o json": "for a program: times in seconds, sizes in bytes",
        "updater config schema > cfg.schema.json": "for an editor, or configuration management",
    },
    "completion": {
        'eval "$(updater completion bash)"': "in ~/.bashrc; zsh alike",
        "updater completion fish > ~/.config/fish/completions/updater.fish": "",
    },
    "new-agent": {
        "updater new-agent falcon-agent": "makes ./falcon-agent with its control and a program to replace",
        "updater lint falcon-agent": "then",
    },
    "publish": {
        "updater publish alpha-1.2.0.tar.gz --to www": "the tarball and its digest files",
        f"updater publish alpha-1.2.0.tar.gz --to www --url http://files/ {_GOES_ON}--desired www/desired.json": (
            "with its entry in a desired state"
        ),
        f"updater publish alpha-1.2.1.tar.gz --to www --desired www/desired.json {_GOES_ON}--percent 5": (
            "to 5% of the hosts"
        ),
    },
    "lint": {
        "updater lint falcon-agent-1.2.0.tar.gz": "before it is published",
        "updater lint --with cfg.json ./my-agent": "a directory, with a config beside its control",
        "updater lint --static -o junit falcon-agent-1.2.0.tar.gz > lint.xml": "for CI",
    },
}
EXIT_CODES = """\
exit codes:
  0   well
  1   it broke; the log has a traceback
  2   changes (with --detailed-exitcode)
  3   not as desired
  4   rolled back; the former version runs
  64  usage
  69  no answer, and none kept
  72  a tool is missing on this host
  75  another updater is in a pass
  78  the config is wrong"""
_COLUMNS = 80  # of a terminal; what is longer would be cut amid a word there
_WIDEST_EXAMPLE = 42  # of what stands beside its purpose


def examples_of(command: str) -> str:
    """What is typed, and beside it, or below where it is long, what it is for. An empty name: where to begin."""
    examples = _EXAMPLES[command]
    widest = max((len(typed) for typed in examples if len(typed) <= _WIDEST_EXAMPLE), default=0)
    lines = []
    for typed, purpose in examples.items():
        beside = f"  {typed:<{widest}}  {purpose}".rstrip()
        if len(typed) <= widest and len(beside) < _COLUMNS:
            lines.append(beside)
        else:
            lines += [f"  {typed}", *([f"      {purpose}"] if purpose else [])]
    return "\n".join(lines)
