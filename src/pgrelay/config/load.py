"""Where the configuration comes from, and how it becomes settings.

One YAML file, defaults for what it leaves out, and for what should not stand in a file (Key.environment,
Key.credential): environment variable before credential before file. An empty variable or credential counts as
absent. Nothing is expanded or substituted within the file.

All that is wrong is collected and raised as one ConfigError, a line each: `file:line:column: key: problem`.
The file is composed, not constructed: YAML's own ideas of what `on` or `12:30` mean never come into play.
"""

import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from pgrelay.config.document import Entry, Findings, Node, Place, Scalar, Sequence, Table, cited
from pgrelay.config.keys import KEY_BY_NAME, KEYS, PATH
from pgrelay.config.read_keys import read_keys, top_level_names
from pgrelay.config.read_sources import read_sources
from pgrelay.config.section import Section
from pgrelay.config.settings import Settings
from pgrelay.errors import ConfigError

PATH_VARIABLE = "PGRELAY_CONFIG"
#: Looked for, in this order, when no file is named.
SEARCHED = (Path("pgrelay.yaml"), Path("/etc/pgrelay/config.yaml"))

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
#: Tags that YAML gives by itself; any other was written, and would promise a type that nobody looks at.
_OWN_TAGS = {
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "map", "seq")
}


def load(path: Path | None, *, environ: Mapping[str, str], credentials: Path | None) -> Settings:
    """Settings from the file, the environment and the credentials; ConfigError with all that is wrong.

    Without `path` the file is looked for: $PGRELAY_CONFIG, then SEARCHED, and having none is fine unless the
    variable names one. `credentials` is the directory that systemd made for this service.
    """
    found, content = _read_file(path, environ)
    findings = Findings()
    document = _compose(content, str(found), findings)
    top = Section(document, "", top_level_names(), findings, elsewhere=KEY_BY_NAME)
    values = read_keys(top, _overrides(environ, credentials, findings), findings)
    entry = document.entries.get("sources")
    sources = read_sources(entry.value if entry else None, findings)
    findings.raise_if_any()
    settings = replace(Settings().with_values(values), path=found, sources=sources)
    if settings.daemon.name:
        return settings
    return settings.with_values({"daemon.name": socket.gethostname()})


def _read_file(path: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, bytes]:
    variable = environ.get(PATH_VARIABLE)
    if path is None and variable:
        path = Path(variable)
    for candidate in (path,) if path else SEARCHED:
        try:
            return candidate, candidate.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigError(f"{candidate}: cannot be read: {error.strerror}") from error
    if path is None:
        return None, b""
    named_by = f"it is what {PATH_VARIABLE} names; " if str(path) == variable else ""
    raise ConfigError(f"{path}: no such file", f"{named_by}config.example.yaml is one to start from")


def _overrides(environ: Mapping[str, str], credentials: Path | None, findings: Findings) -> dict[str, Scalar]:
    """What does not come from the file, by the name of the key."""
    found = {}
    for key in KEYS:
        scalar = None
        if credentials and key.credential:
            file = credentials / key.credential
            if key.kind is not PATH:
                scalar = _credential(file, key.name, findings)
            elif file.exists():
                scalar = Scalar(Place(str(file)), str(file.absolute()), quoted=False)
        if key.environment and environ.get(key.environment):
            scalar = Scalar(Place(key.environment), environ[key.environment], quoted=False)
        if scalar is not None:
            found[key.name] = scalar
    return found


def _credential(path: Path, key: str, findings: Findings) -> Scalar | None:
    place = Place(str(path))
    try:
        text = path.read_bytes().decode().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        findings.add(place, key, f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        findings.add(place, key, "is not UTF-8")
    else:
        return Scalar(place, text, quoted=False) if text else None
    return None


def _compose(content: bytes, origin: str, findings: Findings) -> Table:
    """The document, an empty table if there is nothing in it. What is no YAML at all is raised at once."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(errors="replace")
        raise _not_yaml(_place_of(before, origin), "is not UTF-8") from None
    unprintable = _UNPRINTABLE.search(text)
    if unprintable:
        what = f"has the control character U+{ord(unprintable[0]):04X}"
        raise _not_yaml(_place_of(text[: unprintable.start()], origin), what)
    try:
        root = yaml.compose(text, Loader=_Loader)
        node = None if root is None else _Composed(origin, findings).node(root)
    except RecursionError:
        raise _not_yaml(Place(origin), "is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(origin, mark.line + 1, mark.column + 1) if mark else Place(origin)
        what = f"{error.context}, {error.problem}" if error.context else str(error.problem)
        if mark and text[mark.index : mark.index + 1] == "\t":
            what = "a tab, where lines are indented with spaces"
        raise _not_yaml(place, f"is not YAML: {what}") from None
    except yaml.YAMLError as error:
        raise _not_yaml(Place(origin), f"is not YAML: {error}") from None
    if node is None:
        return Table(Place(origin, 1, 1), {})
    if isinstance(node, Table):
        return node
    if not (isinstance(node, Scalar) and node.is_null):
        findings.add(node.place, "", "the file should be a mapping, of lines like 'owner: main'")
    return Table(node.place, {})


def _place_of(before: str, origin: str) -> Place:
    line_start = before.rfind("\n") + 1
    return Place(origin, before.count("\n") + 1, len(before) - line_start + 1)


def _not_yaml(place: Place, problem: str) -> ConfigError:
    return ConfigError(" ".join(f"{place}: {problem}".split()))


class _Composed:
    """From YAML's nodes to ours."""

    def __init__(self, origin: str, findings: Findings) -> None:
        self._origin = origin
        self._findings = findings
        #: By identity, since an alias is the same node again; None while its own content is being read.
        self._done: dict[int, Node | None] = {}

    def node(self, node: yaml.Node) -> Node:
        place = self._place(node)
        if id(node) not in self._done:
            self._done[id(node)] = None
            self._done[id(node)] = self._convert(node, place)
        done = self._done[id(node)]
        if done is None:
            self._findings.add(place, "", "an alias stands within what it stands for")
            return Scalar(place, "", quoted=False)
        return done

    def _convert(self, node: yaml.Node, place: Place) -> Node:
        if node.tag not in _OWN_TAGS:
            self._findings.add(place, "", f"has the tag {cited(node.tag)}; tags mean nothing here")
        if isinstance(node, yaml.ScalarNode):
            # The C loader marks plain style with an empty string, the Python one with None.
            return Scalar(place, node.value, quoted=bool(node.style))
        if isinstance(node, yaml.SequenceNode):
            return Sequence(place, tuple(self.node(item) for item in node.value))
        entries: dict[str, Entry] = {}
        for key, value in node.value:
            key_place = self._place(key)
            if not isinstance(key, yaml.ScalarNode):
                self._findings.add(key_place, "", "a key should be a single word")
                continue
            entry = Entry(key_place, self.node(value))
            if key.value in entries:
                first = entries[key.value].place.line
                self._findings.add(key_place, key.value, f"stands here twice; first on line {first}")
            entries.setdefault(key.value, entry)
        return Table(place, entries)

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._origin, node.start_mark.line + 1, node.start_mark.column + 1)
