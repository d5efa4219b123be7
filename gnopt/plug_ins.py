"""Losses and activations of a user's own: Python files that a configuration names "module:Name".

A plug-in is code, and a configuration may come from somebody else, so nothing is loaded unasked.
The command line allows the plug-ins of a configuration that its user names to train with
(`allow_beside`), or all of them (``--allow-plugins``: `allow_everything`). A configuration
`provide`s its plug-ins when it is read, and `find` gives them out by name. No other name, such as
one in a checkpoint, ever loads a module.

A plug-in is found beside its configuration, in the working directory, or among installed modules,
in this order. A file is loaded by its path and under a name of its own, so that neither it nor
what lies beside it stands in the way of any other module.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from gnopt.errors import ConfigError, DataError

OWNERS = ("run.json", "compare.json")  # beside them lie configurations that gnopt has written
RECORD = "plug_ins"  # the key in these files


@dataclass(frozen=True)
class PlugInFile:
    """The file of a plug-in, as run.json and compare.json record it."""

    file: str  # "" for a module that has none
    sha256: str  # of the file, or of all Python files of a package

    @classmethod
    def of(cls, file: str) -> PlugInFile:
        """Return the record of a file as it is now."""
        path = Path(file)
        if not path.is_file():
            return cls(file, "")
        parts = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part.read_bytes())
        return cls(file, digest.hexdigest())


@dataclass
class _Session:
    """What this process may load, and what it has loaded."""

    everything: bool = False
    checked: bool = False  # the process that started this one has checked all configurations
    folders: set[Path] = field(default_factory=set)  # of configurations that were named
    modules: dict[str, ModuleType] = field(default_factory=dict)  # by the name in configurations
    files: dict[str, PlugInFile] = field(default_factory=dict)  # of these modules
    refused: dict[str, str] = field(default_factory=dict)  # the reasons, by the same names


_session = _Session()


def forget() -> None:
    """Forget what was allowed and loaded; the command line calls this before each command."""
    global _session
    _session = _Session()


def allow_everything() -> None:
    """Allow the plug-ins of every configuration that is read from now on."""
    _session.everything = True


def allow_beside(config: Path) -> None:
    """Allow the plug-ins of a configuration that a user names in order to train with it.

    That does not hold for a configuration that gnopt has written, into a run or a comparison.
    """
    folder = config.resolve().parent
    if not any((folder / owner).exists() for owner in OWNERS):
        _session.folders.add(folder)


def trusts(config: Path) -> bool:
    """Return whether the user vouches for a configuration, by naming it or by a flag."""
    return _session.everything or _session.checked or config.resolve().parent in _session.folders


def everything_is_allowed() -> bool:
    """Return whether the user has given ``--allow-plugins``."""
    return _session.everything


def provide(config: Path, names: Iterable[str]) -> None:
    """Load the plug-ins among ``names``, which stand in ``config``, if they are allowed.

    Raises nothing: `find` says for a name why there is no such plug-in.
    """
    folder = config.resolve().parent
    for module in dict.fromkeys(name.partition(":")[0] for name in names if ":" in name):
        found = _candidates(module, folder)
        if _session.everything or folder in _session.folders:
            _load(module, _chosen(module, folder, found))
        elif module not in _session.modules:
            what = f"the installed module '{module}'"
            if found:
                digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
                what = f"{found[0]} (sha256 {digest[:12]}...)"
            _session.refused[module] = (
                f"it is not loaded, because {config} may come from somebody else: {what} would "
                "run; if you trust it, --allow-plugins loads it"
            )


def find(name: str, what: str) -> object:
    """Return the object called ``"module:Name"`` of a plug-in that was provided; ConfigError
    otherwise. ``what`` is said of it: a loss or an activation.
    """
    module, _, attribute = name.partition(":")
    loaded = _session.modules.get(module)
    if loaded is None:
        reason = _session.refused.get(
            module, "no configuration names it, and a checkpoint alone loads no code"
        )
        raise ConfigError(f"{what} plug-in '{name}' cannot be loaded: {reason}")
    try:
        found: object = getattr(loaded, attribute)
    except AttributeError as error:
        raise ConfigError(f"{what} plug-in '{name}' cannot be loaded: {error}") from None
    return found


def records(names: Iterable[str] | None = None) -> dict[str, dict[str, str]]:
    """Return what run.json records of the plug-ins among ``names``, or of all that are loaded."""
    modules = _session.files if names is None else {n.partition(":")[0] for n in names if ":" in n}
    return {m: asdict(_session.files[m]) for m in modules if m in _session.files}


def load_recorded(document: Mapping[str, Mapping[str, str]]) -> None:
    """Load the plug-ins that another process of the same command has loaded, and no other.

    That process has checked the configurations, too. Raises DataError if a file has changed in
    between.
    """
    _session.checked = True
    for module, record in document.items():
        _load(module, Path(record["file"]) if record["file"] else None)
    refuse_changes(document)


def changes(before: object) -> list[str]:
    """Return a line for each plug-in that is not the one that ``before`` records, as `records`
    does.
    """
    lines = []
    for module, record in _session.files.items():
        sha256 = _recorded(before, module, "sha256")
        if sha256 and sha256 != record.sha256:
            lines.append(
                f"{record.file}: not the plug-in that the run was started with "
                f"(sha256 {record.sha256[:12]}..., expected {sha256[:12]}...)"
            )
    return lines


def refuse_changes(before: object) -> None:
    """Raise DataError for plug-ins that changed: what goes on must go on with the same code."""
    for line in changes(before):
        raise DataError(line)


def _candidates(module: str, folder: Path) -> list[Path]:
    """Return the files that a module of a configuration in ``folder`` may be: beside it, in the
    working directory, and where the run or the comparison in ``folder`` remembers it to be.
    """
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        return []
    found = [
        path
        for place in dict.fromkeys((folder, Path.cwd()))
        for base in [place.joinpath(*parts)]
        for path in (base.with_name(f"{base.name}.py"), base / "__init__.py")
    ]
    found.append(Path(_recorded(_record_of(folder), module, "file")))
    return [path for path in found if path.is_file()]


def _chosen(module: str, folder: Path, found: Sequence[Path]) -> Path | None:
    """Return the file to load: one that is as the run remembers it, or else the first."""
    digest = _recorded(_record_of(folder), module, "sha256")
    same = [path for path in found if digest and PlugInFile.of(str(path)).sha256 == digest]
    return next(iter([*same, *found]), None)


def _record_of(folder: Path) -> object:
    """Return what the run or the comparison in ``folder`` records of plug-ins, whatever that is."""
    for owner in OWNERS:
        try:
            return json.loads((folder / owner).read_text(encoding="utf-8"))[RECORD]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _recorded(document: object, module: str, key: str) -> str:
    """Return a text in a record that may come from somebody else; "" if it is not there."""
    entry = document.get(module) if isinstance(document, Mapping) else None
    text = entry.get(key) if isinstance(entry, Mapping) else None
    return text if isinstance(text, str) and "\0" not in text else ""


def _load(module: str, file: Path | None) -> None:
    """Run the code of a plug-in, unless that has been done; note why that fails if it does."""
    known = _session.files.get(module)
    if known is not None and file is not None and known == PlugInFile.of(str(file)):
        return
    try:
        loaded = importlib.import_module(module) if file is None else _execute(module, file)
    except (Exception, SystemExit) as error:  # it may do anything
        _session.modules.pop(module, None)
        _session.refused[module] = f"{type(error).__name__}: {error}"
        return
    _session.modules[module] = loaded
    _session.files[module] = PlugInFile.of(str(file or getattr(loaded, "__file__", None) or ""))


class _SourceAlone(SourceFileLoader):
    """Compiles the source itself: compiled files beside it may hold other code."""

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _execute(module: str, file: Path) -> ModuleType:
    digest = hashlib.sha256(str(file).encode(errors="surrogateescape") + file.read_bytes())
    name = f"gnopt_plug_in_{digest.hexdigest()[:16]}_{module.replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(
        name,
        file,
        loader=_SourceAlone(name, str(file)),
        submodule_search_locations=[str(file.parent)] if file.name == "__init__.py" else None,
    )
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # dataclasses and pickle look a class's module up
    try:
        spec.loader.exec_module(made)
    except BaseException:
        del sys.modules[name]
        raise
    return made
