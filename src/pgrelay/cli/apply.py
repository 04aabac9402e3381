"""`pgrelay apply`: the sources of the configuration, installed; with --plan, what that would change."""

from collections.abc import Sequence

from pgrelay.cli.context import Context
from pgrelay.cli.output import Output
from pgrelay.cli.text import count, indented, printable
from pgrelay.config import Settings
from pgrelay.db import admin_sources
from pgrelay.db.admin import Admin
from pgrelay.errors import ConfigError, Refused
from pgrelay.plan import ACTIVE, Change, Installed, Kind, Lock, lock_of, plan

_MARKS = {
    Kind.UNWATCH: ("-", "red"),
    Kind.WATCH: ("+", "green"),
    Kind.CHANGE: ("~", "yellow"),
    Kind.MEND: ("!", "yellow"),
    Kind.CLASH: ("x", "red"),
    Kind.LEAVE: (" ", "dim"),
    Kind.SAME: ("=", "dim"),
}
_DONE = {Kind.UNWATCH: "unwatched", Kind.WATCH: "watched", Kind.CHANGE: "changed", Kind.MEND: "mended"}


async def apply(context: Context) -> int:
    settings = context.settings
    refuse_without_file(settings)
    async with context.admin() as admin:
        if context.argument("plan") or context.argument("full"):
            return await _show_plan(admin, settings, context.out, full=context.argument("full"))
        changes = await admin_sources.apply(admin, settings.owner, lambda found: _decided(settings, found))
        made = [change for change in changes if change.active]
        context.out.value([_as_row(change) for change in changes])
        for change in made:
            _print_change(context.out, change)
        if made:
            context.out.say(f"{_summary(made, _DONE)}. Next: pgrelay check")
        else:
            context.out.say(_nothing(changes))
    return 0


def refuse_without_file(settings: Settings) -> None:
    """Without a file there are no sources, and applying none would unwatch everything."""
    if settings.path is None:
        raise ConfigError(
            "no configuration file was found, so nothing says what to watch",
            "Name one: pgrelay apply --config FILE. It is looked for in $PGRELAY_CONFIG, ./pgrelay.yaml and"
            " /etc/pgrelay/config.yaml.",
        )


def _decided(settings: Settings, found: Sequence[Installed]) -> list[Change]:
    changes = plan(settings.owner, settings.sources, found)
    clashes = [change for change in changes if change.kind is Kind.CLASH]
    if clashes:
        raise Refused(
            f"{clashes[0].name}: {clashes[0].reasons[0]}; nothing was changed",
            "Give this source another name, or set the same owner in both configuration files.",
        )
    return changes


async def _show_plan(admin: Admin, settings: Settings, out: Output, *, full: bool) -> int:
    rows = []
    async with admin.transaction(read_only=True):
        changes = plan(settings.owner, settings.sources, await admin_sources.installed(admin))
        for change in changes:
            statements = await admin_sources.statements(admin, change) if change.active else []
            rows.append(_as_row(change, statements))
            if change.kind is not Kind.SAME:
                _print_change(out, change)
            for statement in statements:
                _print_statement(out, statement, change, full=full)
    out.value(rows)
    planned = [change for change in changes if change.active]
    if any(change.kind is Kind.CLASH for change in changes):
        out.say("This cannot be applied: give the source another name, or the same owner in both files.")
        return 1
    if planned:
        counts = _summary(planned, {kind: f"to {kind}" for kind in ACTIVE})
        out.say(f"{counts}; nothing was changed. Next: pgrelay apply")
    else:
        out.say(_nothing(changes))
    return 0


def _nothing(changes: Sequence[Change]) -> str:
    same = sum(change.kind is Kind.SAME for change in changes)
    return f"Nothing to do: {count(same, 'source')} as configured."


def _summary(changes: Sequence[Change], words: dict[Kind, str]) -> str:
    counts = [(kind, sum(change.kind is kind for change in changes)) for kind in ACTIVE]
    return ", ".join(f"{count(number, 'source')} {words[kind]}" for kind, number in counts if number)


def _print_change(out: Output, change: Change) -> None:
    mark, style = _MARKS[change.kind]
    out.print(
        f"{out.style(f'{mark} {change.kind}', style)} {out.style(change.name, 'bold')} on {change.table}"
    )
    for reason in change.reasons:
        out.print(f"    {printable(reason)}")


def _print_statement(out: Output, statement: str, change: Change, *, full: bool) -> None:
    lock = lock_of(statement)
    where = f" on {change.table}" if lock is not Lock.NONE else ""
    first, _, rest = statement.strip().partition("\n")
    lines = rest.count("\n") + 1
    shown = statement.strip() if full or not rest else f"{first} … ({lines} more lines; --full shows them)"
    out.print(out.style(f"    -- {lock}{where}", "cyan"))
    out.print(
        out.style(indented(printable(f"{shown};" if full or not rest else shown, lines=True), "    "), "dim")
    )


def _as_row(change: Change, statements: Sequence[str] | None = None) -> dict[str, object]:
    row: dict[str, object] = {
        "kind": change.kind,
        "name": change.name,
        "table": change.table,
        "owner": change.owner,
        "reasons": change.reasons,
    }
    if statements is not None:
        row["statements"] = [{"sql": statement, "lock": lock_of(statement)} for statement in statements]
    return row
