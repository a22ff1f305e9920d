"""The reasons that conditions give: what each means, what the updater does by itself, what the operator can do.

The one table for both readers: `why` prints the remedies of what it finds, and `python -m tests.reasons_page` writes
docs/reasons.md from it. The texts are Markdown without links; in a remedy NAME stands for the agent's name. Pure data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import field

from probes.values import frozen


@frozen
class Reason:
    """`by_itself`: what the updater does without help. `remedy`: empty where there is nothing to do. `cases`: words of
    a message, and what they mean or what to do where the message has them. `see`: a link, for the page alone."""

    meaning: str
    by_itself: str
    remedy: str = ""
    cases: Mapping[str, str] = field(factory=dict, kw_only=True)
    see: str = field(default="", kw_only=True)


def remedies(name: str, reason: str, message: str) -> list[str]:
    """What the operator can do about a reason of agent NAME: the cases that the message has, then the remedy."""
    known = REASONS.get(reason)
    if known is None:
        return []
    found = [text for words, text in known.cases.items() if words in message]
    found += [known.remedy] if known.remedy else []
    return [re.sub(r"\bNAME\b", lambda _: name, text) for text in found]


REASONS: Mapping[str, Reason] = {
    "AsDesired": Reason(
        "All is as it should be; the message may add something.",
        "Nothing is done.",
    ),
    "FirstInstall": Reason(
        "The agent is to run, and has no `.version` here yet.",
        "The plan installs it.",
    ),
    "VersionDiffers": Reason(
        "Another version is in use than the desired one, or `.version` names a directory that is missing or has no "
        "`control`.",
        "The plan brings the desired one. Where this lasts longer than a pass, Held says what the change waits for, "
        "and `updater why NAME` what failed.",
    ),
    "DigestDiffers": Reason(
        "The version in use was published again: same name, another tarball. Seen only where the response carries the "
        "digest itself; no digest file is asked for a version that is in place.",
        "The two directories are exchanged.",
    ),
    "ConfigDiffers": Reason(
        "The remote config changed.",
        "It is put in place between a stop and a start of the same version. If the agent does not come up, the former "
        "bytes return (RolledBack).",
        cases={
            "is empty, and the one in use is not": "It may be an upload that was cut off, so nothing is changed. Fill "
            "the remote file, or deliver it empty by `updater release NAME`.",
        },
    ),
    "ConfigEdited": Reason(
        "The config in use was changed on this host, or differed before the updater managed the agent. The agent "
        "counts as ready.",
        "The file is left alone until the remote one changes; then that is delivered.",
        "To have the remote config now, stop the agent and remove the file: it is fetched before the start.",
    ),
    "NotRunning": Reason(
        "The agent is to run, and its control script says that it does not.",
        "It is started, whatever the server says; if it dies again and again, with growing pauses (BackingOff).",
        "If it dies again and again, read its own log and `.start.log`: `updater logs NAME`.",
    ),
    "Healing": Reason(
        "The agent crashed, and the change that is pending needs a remote file.",
        "It is started first. `plan` shows the start under `heal`, and the change beside it.",
    ),
    "UnexpectedlyRunning": Reason(
        "The agent is to be stopped, and runs.",
        "It is stopped.",
        "If it comes back, find what starts it: a line of cron, an init script, a second updater.",
        cases={
            "it lives in": "The agent seems to run in another of its homes as well; nothing is started or stopped in "
            "either. Stop the one that must not run, and remove its `.version`.",
        },
    ),
    "StatusUnknown": Reason(
        "`control status` printed no word that is understood, did not end within `control_timeout.status`, or cannot "
        "be executed; or a process runs in the home while `.version` names no usable version.",
        "Nothing is started or stopped.",
        "Run `./control status` in the version's directory, as the agent's user. It must print `started` or `stoped`; "
        "other words belong into `status_words`. A stray copy: stop it, or write its version into `.version`.",
        cases={
            "which was removed while it ran": "Its control script can't reach the process. Where `stop` or another "
            "version is desired, it gets SIGTERM in place of `control stop`. To have the same version back, end it: "
            "the next pass installs and starts it.",
            "is gone, moved away or unmounted": "What the last start there left runs on. Put the home back, or mount "
            "its disk. To have the agent installed again, end the process first.",
            "does not answer": "The home is on NFS, FUSE or the like, and its server is silent for 5 s. The other "
            "agents go on. Bring the server back, or unmount it.",
            "was lost": "That user's worker process ended (killed for want of memory, perhaps) or hung. Another one "
            "takes its place, three in a pass. A `start` or `stop` that it had called is waited for.",
            "sudo forbids to execute it": "Give the updater's line in /etc/sudoers the tag `EXEC:`.",
        },
        see="[Which forms of status are understood](agents.md#the-forms-of-status-that-are-understood)",
    ),
    "ObserveOnly": Reason(
        "The server sends an empty `cmd`.",
        "The agent is observed and reported, no more.",
    ),
    "NothingDesired": Reason(
        "The server answered with an empty list, as to hosts that it does not know yet.",
        "The agents known last are only observed and reported, until an answer names agents again.",
        "If this stays, add the host at ops-meta.",
    ),
    "Confirming": Reason(
        "New content runs, and is within its `watch`. The agent counts as ready.",
        "When the watch ends it is confirmed as good, or rolled back.",
    ),
    "RolledBack": Reason(
        "New content did not come up, its status stayed unknown, or it stopped within its watch. The former content "
        "is in use again, without a download; later passes say Quarantined.",
        "Where even the way back fails, it is tried again after 1, 5, 15, then every 60 minutes. An agent that was "
        "stopped on order before the change stays stopped.",
        "Read what the script printed (last failures), and publish a repaired version. Where the way back fails "
        "because the new version can't be seen to stop, stop it by hand.",
        see="[Going back by hand](steering.md#going-back)",
    ),
    "Quarantined": Reason(
        "What is desired was rolled back on this host.",
        "It is not tried again until its content changes (version, digest or config), or `quarantine_for` has passed.",
        "Publish a repaired one, or name the old version at ops-meta. If the cause was on this host and is gone: "
        "`updater release NAME`, and the next pass tries it again, without a download.",
    ),
    "BackingOff": Reason(
        "Something failed and is tried again later.",
        "A change that failed before its switch waits 1, 5, 15, then 60 minutes each; other content is tried at once. "
        "An agent that dies again and again is started at once, then after 10 s, doubling to 5 minutes; ten minutes "
        "well end that count.",
        "Remove the cause that the message names. `updater release NAME` ends the wait.",
        cases={
            "turn to fetch": "With `fetch_splay` each host fetches at its own moment, first installs and runs by hand "
            "included.",
            "was rolled back": "It did not start while processes of its predecessor were left. If it fails so once "
            "more, it is Quarantined.",
        },
    ),
    "WaitingForPlace": Reason(
        "The change waits for a place in the fleet's lock (`fleet_lock`): as many other hosts of the group change "
        "now, or keep their place after a rollback.",
        "It asks again at each pass of the host's slot.",
        "If a bad version holds the places, publish its repair: the hosts that failed get it first. In an emergency, "
        "on one of these: `updater release NAME --place`. If the lock server does not answer: is `fleet_lock.url` "
        "right, and the server running?",
        see="[A dead host's place](steering.md#so-many-hosts-at-once)",
    ),
    "NotYet": Reason(
        "The entry has a `rollout` that does not include this host yet.",
        "The change waits.",
        "Nothing on this host. The publisher raises `percent`.",
    ),
    "OutsideWindow": Reason(
        "A change of what is in use waits for a maintenance window (`windows`, `time_zone`).",
        "Heals and rollbacks do not wait. Where this host does not know the time zone, all windows count as closed.",
        cases={
            "is unknown": "Install tzdata, or correct `time_zone`.",
        },
    ),
    "Pinned": Reason(
        "An operator went back with `updater rollback`. Ready is False, so that the pin is not forgotten.",
        "What the server desires waits.",
        "`updater release NAME` ends the pin.",
    ),
    "HeldByOperator": Reason(
        "An operator holds the agent, or all agents.",
        "Nothing is done, crashes included.",
        "Ask that operator. `updater release NAME` lifts the hold; `updater release --all` lifts one on all agents.",
        cases={
            "can't be read as a hold": "The file in `var/holds/` is damaged: correct or remove it.",
        },
        see="[Holds](steering.md#holds)",
    ),
    "WorkDirChanged": Reason(
        "The response names another `workDir` than the one in which the agent lives.",
        "The agent moves; until then it is healed in the old home.",
        "If it must not move, correct `workDir` at ops-meta, or `updater hold NAME --reason R`.",
        see="[When an agent moves](operating.md#when-an-agent-moves)",
    ),
    "RunUserChanged": Reason(
        "The response names another `runUser` in the same `workDir`: a home is never given to another user. A home of "
        "a former user in the desired `workDir` holds the change, too.",
        "The agent runs on as its former user.",
        "Name another `workDir` for the new user at ops-meta: the agent moves there. Or set `cmd` to `stop`, remove "
        "the home `{workDir}/NAME` once the agent is stopped, and set `cmd` to `start`. (`chown -R` changes nothing.)",
        see="[When an agent moves](operating.md#when-an-agent-moves)",
    ),
    "PolicyRefused": Reason(
        "A rule of this host does not allow it.",
        "An entry that breaks a rule about users and places is refused: the last accepted one serves. Rules about "
        "content only hold the change.",
        "Correct the entry at ops-meta, or the rule in `cfg.json`.",
        cases={
            "home_parents": "Make the home yourself, or name its place in `allow_work_dirs`.",
            "root_home": "Others can write what root would execute, so nothing is executed. Make the named folder "
            "root's alone (chown, chmod), or name another `runUser`.",
        },
        see="[What this host accepts](configuration.md#what-this-host-accepts)",
    ),
    "InvalidSpec": Reason(
        "The entry can't be served as it is written.",
        "The last accepted entry serves: the agent is observed, reported and healed, and a change waits. A `stop` is "
        "obeyed where name, user and workDir are right. Where an entry does not plainly say `start`, nothing is "
        "started.",
        "Correct the entry at ops-meta.",
        see="[Entries that are refused](configuration.md#entries-that-are-refused)",
    ),
    "ServerUnreachable": Reason(
        "There is no answer: the server is down, too slow, redirects, or answers with an HTTP error; or the file that "
        "`desired` names can't be read.",
        "What crashed is started, all else waits. Where no answer was ever accepted, the exit code is 69.",
        "Is `server` right, and does this host reach it? `updater check`",
    ),
    "ResponseInvalid": Reason(
        "The server answered in another form than the contract's: its own error message, a proxy's page, no JSON, "
        "more than is read.",
        "As with ServerUnreachable.",
        "Ask those who run that server, or what stands between.",
        see="[The contract's form](contract.md)",
    ),
    "FetchFailed": Reason(
        "A tarball, digest file or config can't be had.",
        "A download that breaks off, stalls or meets 408, 429 or 5xx is tried four times in a pass, and resumed; a "
        "4xx, a redirect that is not followed or too large a file ends it for this pass.",
        "Publish the file at that URL, or correct the entry. A 404 of a digest file: `md5` may be the digest itself "
        "or the URL base of digest files.",
        cases={
            "not asked": "Only this command did not look.",
        },
    ),
    "DigestMismatch": Reason(
        "The tarball is not the one that its digest names, or no digest is known.",
        "It is thrown away before a byte is unpacked. Another digest is tried at once, the same one after a delay.",
        "Publish the tarball again, or correct the digest. `updater release NAME` tries at once.",
        cases={
            "which is the digest of": "ops-meta names the digest of another version: was `md5` forgotten when the "
            "version was changed?",
            "still what was refused before": "From the third try on the file is downloaded again only when its ETag, "
            "date or length changed, or after six hours.",
        },
    ),
    "SignatureInvalid": Reason(
        "No key of `trusted_keys` signed this tarball as this agent in this version, or the signed desired state is "
        "not acceptable.",
        "Nothing is unpacked. An unsigned desired state counts as no answer.",
        "Have it signed, then `updater release NAME`. A desired state: serve the latest file with its signature, or "
        "publish it again by `updater publish`.",
        cases={
            "ahead of this host's clock": "Is this host's clock right?",
        },
        see="[Signing for a publisher](security.md#signing-for-a-publisher), [a signed desired "
        "state](security.md#a-signed-desired-state)",
    ),
    "UnpackRefused": Reason(
        "The tarball is damaged, too large, has no executable `control` in its root, or holds devices, links and "
        "names that lead out of the tree, or the updater's own marker.",
        "Nothing of it stays.",
        "Pack it again (`updater lint` says what is wrong), or raise the key that the message names (`max_unpacked`, "
        "`max_files`).",
    ),
    "DiskTooSmall": Reason(
        "The cache or the home has not enough room, or no quota.",
        "It is known before writing where the size is; what was written is removed at once.",
        "Free space. A smaller `keep` or `cache_size` helps.",
    ),
    "WriteFailed": Reason(
        "The disk refused a write, a rename or an fsync, or something is in the way. As the reason of StateStored: "
        "the updater's own memory.",
        "What a switch renames is tried before `stop`. What can't be removed is reported once and holds nothing. "
        "Without its memory the updater heals, and changes wait.",
        "Look at that disk, at rights, mounts and `chattr +i`. A home in a lower layer of an image can't be "
        "exchanged: publish another version instead of other content under the same one. Then `updater release NAME`.",
    ),
    "StateSetAside": Reason(
        "`var/state.db` could not be read (damaged, or of a newer version), and was renamed.",
        "A new one is begun. Lost are the last accepted answer (until the next one: exit code 69, and nothing is "
        "healed), history, pins and quarantine; holds stay. What was rolled back is tried once more.",
        "Pin again with `updater rollback`. Keep the old file if the cause is to be found; else remove it.",
    ),
    "WorkDirMissing": Reason(
        "The agent's workDir and its parent do not exist, the home vanished, or the agent's user may not make it.",
        "Nothing is fetched or tried.",
        "Make the directory and give it to the agent's user (the message has the line), or correct `workDir` at "
        "ops-meta.",
    ),
    "HomeBusy": Reason(
        "Another updater, with another config folder, acts on this home now.",
        "Nothing is touched.",
        "Let one updater alone manage an agent: stop the other, or set `allow_agents` in each.",
    ),
    "ControlMissing": Reason(
        "A version has no `control`. No condition shows it: a tarball without one is UnpackRefused, a directory "
        "without one VersionDiffers.",
        "Nothing is done.",
    ),
    "ControlTimeout": Reason(
        "`control start` or `control stop` did not end, or had no effect, within its limit (`control_timeout`).",
        "Its process group was ended. After a failed stop the old version is started once; new content whose start "
        "timed out is rolled back.",
        "Raise the limit if the agent is merely slow.",
        cases={
            "of an earlier run": "A killed updater had called it, and SIGKILL does not end it: most often a dead disk "
            "or NFS server holds it.",
        },
    ),
    "StopFailed": Reason(
        "`control stop` ended, and status does not say stopped.",
        "Nothing is switched; the old version is started once, and the change waits (BackingOff). Processes that only "
        "outlive the stop are waited for, 10 s at most, and are no failure.",
        "Look at the script's `stop`. Or stop the agent by hand and `updater release NAME`: the next pass goes on.",
    ),
    "StartFailed": Reason(
        "`control start` ended, and status does not say started, or no longer half a second later.",
        "New content is rolled back, where there is something to go back to; else the start is tried with growing "
        "pauses.",
        "Read the last failures and the agent's own log: `updater logs NAME`. Publish a version that starts, or name "
        "an older one at ops-meta.",
        cases={
            "outlived the stop": "Processes of the stopped version are left, and may hold the port. Have `control "
            "stop` wait for all of them. The second such failure in a row counts as the new version's.",
            "short of a resource": "This host had no process, memory or descriptor left; no version is blamed.",
        },
        see="[The convention](agents.md#the-convention)",
    ),
    "ToolMissing": Reason(
        "Missing is `sh` (exit code 72), `sudo`, PyNaCl with `trusted_keys`, or the time zone of `windows`.",
        "Changes wait. Without `sudo` other users' agents are left alone.",
        "Install it. PyNaCl: `./control setup --with signatures`.",
    ),
    "UserMissing": Reason(
        "The agent's user does not exist on this host.",
        "The agent is left as it is. Where a look-up merely fails (a directory service is down), the last known ids "
        "stay in force, and the agent is healed.",
        "Create the user, correct `runUser` at ops-meta, or set `create_users`. Where creating failed, the log says "
        "why.",
    ),
    "SudoRefused": Reason(
        "`sudo -n -u USER` was refused.",
        "That user's agents are left alone.",
        'Add the line that the message has by `visudo`. "you must have a tty": `Defaults !requiretty`.',
        see="[Agents of several users](operating.md#agents-of-several-users)",
    ),
    "InterpreterMissing": Reason(
        "The agent's user can't execute a new version's `control` (CR LF, a byte order mark, no `#!`, a missing "
        "interpreter, one that leads back to the script, noexec, another architecture, a damaged program), or can "
        "execute no Python of 3.10 or newer.",
        "It is known before `stop`; the change waits.",
        "Publish a version that is right, or install what the message names, and `updater release NAME`. For Python: "
        "install the system's `python3`.",
    ),
    "InternalError": Reason(
        "A mistake in the updater itself, met with this agent.",
        "The agent is left as it is until a later pass succeeds. The log has a traceback.",
        "Please report it.",
        cases={
            "short of a resource": "It is no mistake: raise the limits of processes and memory (`ulimit -u`, `ulimit "
            "-v`, TasksMax, MemoryMax).",
        },
    ),
}
