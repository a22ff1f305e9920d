"""What an entry is judged by: the policy of this host, what was looked up for it, and the refusal."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field

from probes.values import frozen
from reconcile.decide.host_rules import Restrictions


@frozen(kw_only=True)
class Policy:
    """What of this host decides about an answer. `own_folders`: absolute, where our config, `var/` and code lie.
    `create_users`: whether users that are missing are made, and so are no reason to refuse. `desired_agent`: the one
    agent that this host takes, None for all."""

    own_user: str
    own_uid: int = -1
    create_users: bool = False
    own_folders: tuple[str, ...]
    arch: str
    default_work_dir: str | None = None
    default_run_user: str | None = None
    tarball_layout: str = "{tarball}/{arch}/{name}-{version}.tar.gz"
    desired_agent: str | None = None
    restrictions: Restrictions = field(factory=Restrictions)


@frozen(kw_only=True)
class Lookups:
    """What a host was asked about an answer. `uids`: of the other users that exist. `leads_to`: the real path of each
    of `homes_named` and `allow_work_dirs`; one that is missing leads nowhere else. `delivered`: the agents that were
    ever given a remote config. `lives_as`: the user of each agent that is remembered."""

    uids: Mapping[str, int] = field(factory=dict)
    leads_to: Mapping[str, str] = field(factory=dict)
    delivered: frozenset[str] = frozenset()
    lives_as: Mapping[str, str] = field(factory=dict)

    def real(self, path: str) -> str:
        return self.leads_to.get(path, path)


class RuleBroken(Exception):
    """An entry breaks a rule. `message`: for people; `reason`: of the condition that says so."""

    def __init__(self, rule: str, message: str, reason: str = "InvalidSpec") -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message
        self.reason = reason
