"""The program that a child of another user gets on its standard input: sources of this very code, and what loads them.

So it needs neither our install folder, which that user may not be able to read, nor any package: attrs, which our
values are made of, is pure Python and goes along. It finds the sources; running them is main.py's business.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import Any

# All that stands on the command line, which sudo writes into its log: read a loader of so many bytes, and run it.
# Scripts look for an agent by its name, so the updater's own is not in it.
BOOT = "import sys;s=sys.stdin.buffer;exec(compile(s.read(int(s.readline(9))),'<sent>','exec'))"

TOO_OLD = "needs Python 3.10 or newer"

# In words that every Python 3 parses, so that one that is too old can say so.
_LOADER = f"""
import sys
if sys.version_info < (3, 10):
    sys.exit("ops-updater: %s {TOO_OLD}" % sys.executable)
import importlib.abc, importlib.util, json

class Sent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    sources = {{}}
    def find_spec(self, name, path=None, target=None):
        if name not in self.sources:
            return None
        return importlib.util.spec_from_loader(name, self, is_package=self.sources[name][0])
    def exec_module(self, module):
        name = module.__name__
        exec(compile(self.sources[name][1], "<ops-updater " + name + ">", "exec"), module.__dict__)

sys.meta_path.insert(0, Sent())
Sent.sources.update(json.loads(s.read(int(s.readline(9)))))
from probes.worker.main import serve
serve(s, Sent.sources)
"""

_IMPORT = re.compile(
    r"^[ \t]*(?:from|import) ((?:probes|reconcile)[\w.]*)(?: import (\([^)]*\)|[^\n#]*))?", re.MULTILINE
)

Sources = dict[str, tuple[bool, str]]
"""Module -> whether it is a package, and its source."""


def first_words() -> bytes:
    """What is written to a child first: the loader, and what serves calls."""
    loader = _LOADER.encode()
    sources = json.dumps(_sources(("probes.worker.main",), attrs=True)).encode()
    return b"%d\n%s%d\n%s" % (len(loader), loader, len(sources), sources)


def sources_of(module: str) -> Sources:
    """The sources of a module and of all of our own that it imports."""
    return _sources((module,), attrs=False)


@lru_cache
def _sources(roots: Iterable[str], *, attrs: bool) -> Sources:
    found: Sources = {}
    if attrs:
        names = [name for name in sys.modules if name.partition(".")[0] in ("attr", "attrs")]
        found |= {name: _source(name, _loaded(name)) for name in names}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        spec = None if name in found else _spec(name)
        if spec is None:
            continue
        found[name] = _source(name, spec)
        waiting += _imports(found[name][1])
        waiting += [name.rpartition(".")[0]] if "." in name else []
    return found


def _imports(source: str) -> list[str]:
    names = []
    for match in _IMPORT.finditer(source):
        names.append(match[1])
        names += [f"{match[1]}.{one}" for one in re.findall(r"\w+", match[2] or "")]  # a module, or a name in one
    return names


def _loaded(name: str) -> ModuleSpec:
    spec = sys.modules[name].__spec__
    assert spec is not None
    return spec


def _spec(name: str) -> ModuleSpec | None:
    if name in sys.modules:
        return _loaded(name)
    try:
        return find_spec(name)
    except ModuleNotFoundError:  # its parent is a module, and this a name in it
        return None


def _source(name: str, spec: ModuleSpec) -> tuple[bool, str]:
    loader: Any = spec.loader
    source = loader.get_source(name)
    if source is None:
        raise RuntimeError(f"the source of {name} is not installed; other users' agents need it")
    return spec.submodule_search_locations is not None, source
