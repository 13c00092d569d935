"""The models that clients may name: every one that some neuron has or could load, with its aliases. Pure."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from cortex.config import hints
from cortex.config.profiles import Profiles
from cortex.errors import BadRequest, ModelNotFound, Unavailable
from cortex.gateway.neurons.fleet import Fleet
from cortex.wire.status import ModelStatus

__all__ = ["Catalogue"]

_RANK = {"ready": 4, "loading": 3, "unloading": 2, "unloaded": 1, "failed": 0}
_CLAUDE = "claude-"


class Catalogue:
    """`fleet` gives the current snapshot; the tables are made once per snapshot, not per request."""

    def __init__(self, fleet: Callable[[], Fleet], profiles: Profiles, default: str | None) -> None:
        self._fleet = fleet
        self._seen: Fleet | None = None
        self._best: dict[str, ModelStatus] = {}
        self._where: dict[str, list[str]] = {}
        self._names: dict[str, str] = {}
        self.configure(profiles, default)

    def configure(self, profiles: Profiles, default: str | None) -> None:
        """Take the aliases of models.toml and `gateway.default_model`."""
        self._profiles = profiles
        self._default = default
        self._seen = None

    def models(self) -> list[tuple[ModelStatus, list[str]]]:
        """Each model, by id: the status of its copy that is nearest to serving, and the neurons that have it loaded.

        A model none of whose neurons is connected isn't available, and its `problem` says why. Raises Unavailable when
        no neuron has answered yet, so that nobody takes the fleet for an empty one.
        """
        self._refresh()
        self._raise_if_unknown()
        return [(self._best[model], self._where[model]) for model in sorted(self._best)]

    def knows(self, model: str) -> bool:
        self._refresh()
        return model in self._best

    def resolve(self, name: str) -> str:
        """The id of the model that a client names. 1. An id. 2. An alias. 3. An empty name: the default model. 4. A
        `claude-*` name, from a client that knows no others: the default model. Raises ModelNotFound or BadRequest, and
        Unavailable when no neuron has answered yet."""
        self._refresh()
        if name in self._best:  # 1
            return name
        if name in self._names:  # 2
            return self._names[name]
        default = self._default_model()
        if not name:  # 3
            if default is None:
                raise BadRequest(f"model: say which; there are {self._listing()}", param="model")
            return default
        if name.startswith(_CLAUDE) and default is not None:  # 4
            return default
        self._raise_if_unknown()
        close = hints.nearest(name, [*self._best, *self._names])
        hint = f"did you mean {close!r}? " if close else ""
        raise ModelNotFound(
            f"the model {hints.shown(name)} does not exist; {hint}there are {self._listing()}", param="model"
        )

    def _raise_if_unknown(self) -> None:
        neurons = list(self._fleet())
        if neurons and all(neuron.status is None for neuron in neurons):
            whys = "; ".join(f"{neuron.name}: {neuron.ailment}" for neuron in neurons)
            raise Unavailable(f"no neuron has answered yet: {whys}", retry_after=5)

    def _default_model(self) -> str | None:
        """`gateway.default_model`, else the model with the alias "default", else the only model there is."""
        chosen = self._default or "default"
        found = chosen if chosen in self._best else self._names.get(chosen)
        if found is None and len(self._best) == 1:
            return next(iter(self._best))
        return found

    def _listing(self) -> str:
        return ", ".join(sorted(self._best)) or "none (no neuron has answered yet)"

    def _refresh(self) -> None:
        fleet = self._fleet()
        if fleet is self._seen:
            return
        self._seen = fleet
        self._best, self._where, self._names = {}, {}, {}
        connected: set[str] = set()
        for neuron in fleet:
            for status in neuron.status.models if neuron.status else ():
                self._add(neuron.name, status, alive=neuron.takes_orders())
            if neuron.status and neuron.lost_at is None:
                connected.update(status.card.id for status in neuron.status.models)
        self._mark_lost(fleet, self._best.keys() - connected)
        for profile in self._profiles.models:
            if profile.id in self._best:
                self._names |= dict.fromkeys(profile.aliases, profile.id)

    def _mark_lost(self, fleet: Fleet, models: set[str]) -> None:
        """Say of `models`, which no connected neuron has, that they can't be served now."""
        for model in models:
            reasons = "; ".join(f"{neuron.name}: {neuron.ailment}" for neuron, _ in fleet.holding(model))
            best = self._best[model]
            card = structs.replace(
                best.card, available=False, problem=f"no neuron that has it is connected ({reasons})"
            )
            self._best[model] = structs.replace(best, card=card, state="unloaded")

    def _add(self, neuron: str, status: ModelStatus, alive: bool) -> None:
        model = status.card.id
        best = self._best.get(model)
        if best is None or (alive and _RANK[status.state] > _RANK[best.state]):
            self._best[model] = status
        loaded_on = self._where.setdefault(model, [])
        if alive and status.state == "ready":
            loaded_on.append(neuron)
        for alias in status.card.aliases:
            self._names.setdefault(alias, model)
