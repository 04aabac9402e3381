"""What a page is made with: who asks, what for, and the calls of the API, in one transaction with their rights."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple

from pgrelay.api import problems, validate
from pgrelay.api.call import Answer, Call
from pgrelay.api.problems import Problem
from pgrelay.api.route import Route
from pgrelay.api.schemas import COMPONENTS
from pgrelay.api.serve import refuse_who_may_not
from pgrelay.api.table import ROUTES
from pgrelay.db.admin import Admin
from pgrelay.db.tokens import Access, Role
from pgrelay.doctor.trial import TryOut
from pgrelay.errors import Refused
from pgrelay.observation import ApiChanged
from pgrelay.sealing import Keyring

_ROUTES = {route.name: route for route in ROUTES}


class Page(NamedTuple):
    """What is shown: a template and its values."""

    template: str
    values: Mapping[str, Any]
    status: HTTPStatus = HTTPStatus.OK


class Goto(NamedTuple):
    """Another page is shown instead; after a change, so that to reload it changes nothing."""

    path: str


class Later(NamedTuple):
    """What is made when the transaction is over, for it asks somebody else, who may take long."""

    work: Callable[[], Awaitable[Page]]


@dataclass(frozen=True, slots=True)
class View:
    """One request."""

    admin: Admin
    access: Access
    path: Mapping[str, int]
    query: Mapping[str, str]
    form: Mapping[str, str]
    keys: Keyring
    try_out: TryOut
    #: What was done, told when it is committed.
    changes: list[ApiChanged] = field(default_factory=list)

    @property
    def may_change(self) -> bool:
        return self.access.role is not Role.READER

    def refuse_readers(self) -> None:
        """Raises Problem (403): a form is of no use to who may not send it."""
        if not self.may_change:
            raise Problem(HTTPStatus.FORBIDDEN, "forbidden", "this token may look and not change")

    async def ask(
        self,
        operation: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        version: int | None = None,
        key: str | None = None,
        **path: int,
    ) -> Any:
        """The body of the answer to a call of the API, held against the same schemas. Raises Problem, PgrelayError."""
        route = _ROUTES[operation]
        refuse_who_may_not(route, self.access)
        names = path or self.path
        call = Call(
            self.admin,
            self.access,
            names,
            validate.query(route.query, list((query or {}).items())),
            _checked(route, body),
            None if version is None else frozenset({version}),
            key or None,
            route.name,
            self.keys,
        )
        answer = await route.work(call)
        assert isinstance(answer, Answer), "what comes later the page does by itself"
        if route.changes:
            self.changes.append(
                ApiChanged(route.name, self.access.id, self.access.name, next(iter(names.values()), None))
            )
        return answer.body

    async def attempt(self, operation: str, **options: Any) -> tuple[Any, Problem | None]:
        """The same; what the caller did wrong is returned, for the form that is shown again."""
        try:
            async with self.admin.connection.transaction():
                return await self.ask(operation, **options), None
        except Problem as problem:
            return None, _callers(problem, problem)
        except Refused as error:
            return None, _callers(problems.of_error(error), error)


def _checked(route: Route, body: Mapping[str, Any] | None) -> Any:
    if route.body is None:
        return {}
    schema = {**COMPONENTS[route.body], "components": {"schemas": COMPONENTS}}
    return validate.checked(validate.validator(schema), body or {})


def _callers(problem: Problem, error: Exception) -> Problem:
    if problem.status in (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.CONFLICT,
        HTTPStatus.PRECONDITION_FAILED,
    ):
        return problem
    raise error


def faults_by_field(problem: Problem | None) -> dict[str, list[str]]:
    """What is wrong, by field of the form; "" for what is of none. What is wrong with several items is said once."""
    found: dict[str, dict[str, list[str]]] = {}
    if problem is None:
        return {}
    for fault in problem.faults:
        place, _, rest = (fault.pointer or f"/{fault.parameter or ''}").lstrip("/").partition("/")
        # a form speaks of the field where it stands; what came from elsewhere names it
        said = fault.detail.removeprefix(f"{place}: ")
        found.setdefault(place, {}).setdefault(said, []).append(_item(rest.split("/")[0]))
    return {
        place: [f"{', '.join(items)}: {said}" if any(items) else said for said, items in of.items()]
        for place, of in found.items()
    } or {"": [problem.detail]}


def _item(index: str) -> str:
    return f"No. {int(index) + 1}" if index.isdecimal() else index
