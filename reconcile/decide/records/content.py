"""What an agent can be made of, and what is remembered of its remote files. Pure."""

from __future__ import annotations

from probes.observed import Active, HomeRef
from probes.values import frozen


@frozen(kw_only=True)
class ConfigMemory:
    """The remote config that was last delivered (or found in place at the change-over). `digest`: `sha256:hex`."""

    name: str
    url: str
    digest: str
    etag: str | None = None

    @property
    def is_empty(self) -> bool:
        return self.digest == EMPTY_FILE

    def same_file(self, other: ConfigMemory) -> bool:
        return (self.name, self.digest) == (other.name, other.digest)


# What is remembered of an agent that was seen in use while no remote config was wanted for it: one that is wanted later
# is new, whatever file of that name the tarball brought.
NO_CONFIG = ConfigMemory(name="", url="", digest="")
NO_REMOTE = ""
EMPTY_FILE = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@frozen(kw_only=True)
class DigestFile:
    """What the digest file at `url` said when it was asked last, as `md5:hex`. `unasked`: passes since then."""

    url: str
    digest: str
    etag: str | None = None
    unasked: int = 0


@frozen(kw_only=True)
class Content:
    """What an agent can be made of: a version, the tarball's digests and the config's, as far as they are known.
    `config` None is unknown; NO_REMOTE: none is wanted, and the tarball's own counts. `at`: the home where it is, or is
    to be, of an agent that moves; it is no part of what the content is. None: where the agent lives."""

    version: str
    digests: frozenset[str] = frozenset()
    config: str | None = None
    at: HomeRef | None = None

    def matches(self, other: Content) -> bool:
        """Whether both may be the same: unknown differs from nothing."""
        same_config = self.config is None or other.config is None or self.config == other.config
        return self.same_tree(other) and same_config

    def same_tree(self, other: Content) -> bool:
        """Whether both may be of the same tarball."""
        kinds = {digest.partition(":")[0] for digest in other.digests}
        mine = {digest for digest in self.digests if digest.partition(":")[0] in kinds}
        return self.version == other.version and mine <= other.digests


def content_in_use(active: Active) -> Content:
    return Content(version=active.version, digests=active.tree.digests, config=active.tree.config)


def is_surely(content: Content, active: Active) -> bool:
    """Whether what is in use is known to be this content: it is not enough that nothing says otherwise."""
    in_use = content_in_use(active)
    if content.version != in_use.version or content.config not in (None, NO_REMOTE, in_use.config):
        return False
    # Of a tree that was found here no digest is known; a config that we put into it tells as well.
    return bool(content.digests & in_use.digests if in_use.digests else content.config)


def is_fallback_for(back: Content, failed: Content) -> bool:
    """Whether it is another tree, or the same one with a config that is known to be another and can be put back."""
    if not back.same_tree(failed):
        return True
    return bool(back.config) and failed.config is not None and back.config != failed.config
