"""The check at home in the line: which units are met there, what they should be called, is the broker there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rig.bench.bench import Bench, Slot
from rig.errors import UnitFailed, UsageProblem
from rig.home.check import Expected, check_interface
from rig.home.config import Home, check_home, home_of
from rig.home.mqtt import Broker
from rig.image.contents.provision import Provision
from rig.line.job import Job, Stage
from rig.line.provisioning import provision_of
from rig.line.target import Target

NO_RADIO = (
    "a simulated bench has no radio: its boards execute their firmware and join no network, so the unit was not met "
    "at home"
)


def is_met(bench: Bench, home: Home) -> bool:
    """Whether there is anybody to meet: a real board, or what stands in for a simulated one."""
    return not bench.simulated or home.stand_in


def with_home(job: Job, slots: Sequence[Slot]) -> Job:
    """The job with a last stage at home for what it converts, where its file or a product asks for that."""
    last = job.stages[-1]
    if last.task != "convert" or not any(_home(slot, job) for slot in slots):
        return job
    return replace(job, stages=(*job.stages, Stage("home", last.image)))


def check_at_home(bench: Bench, slots: Sequence[Slot], job: Job, found: Sequence[Target]) -> tuple[str, ...]:
    """The secrets of the networks that units are met in; none where they are not. UsageProblem where one is missing,
    where units would not come there, or where they are to be something else than OpenBeken (`found`: the images)."""
    if job.stages[-1].task != "home":
        if job.home is not None or (job.no_home and not any(stage.task == "convert" for stage in job.stages)):
            raise UsageProblem("--home is for a conversion to OpenBeken, and for rig run home")
        return ()
    secrets: list[str] = []
    converts = any(stage.task == "convert" for stage in job.stages)
    for slot in slots:
        home = _home(slot, job)
        if home is None:
            raise UsageProblem(
                f"which network are units met in? --home FILE, or [home] in the product {slot.product.name}"
            )
        provision = provision_of(slot.product, job.provision, off=job.no_provision, home=home)
        secrets += check_home(home, provision, converts=converts and not bench.simulated)
    for target in found:
        if not bench.simulated and target.plan.identity.firmware != "OpenBeken":
            raise UsageProblem(f"{target.name} is {target.plan.identity.what}: only OpenBeken is met at home")
    return tuple(secrets)


def reach_brokers(bench: Bench, slots: Sequence[Slot], job: Job) -> None:
    """BenchBlocked where access point or broker of any slot are not there: before the first board."""
    if job.stages[-1].task != "home":
        return
    for home in {id(home): home for slot in slots if (home := _home(slot, job)) and is_met(bench, home)}.values():
        check_interface(home.interface)
        with Broker(home):
            pass


def _home(slot: Slot, job: Job) -> Home | None:
    return home_of(slot.product.home, job.home, off=job.no_home)


@dataclass(frozen=True)
class Guest:
    """What a unit should be at home. `password`: of its page. `name`: what it is to be called, if anything new."""

    expected: Expected
    password: str
    name: str | None


def guest_of(home: Home, provision: Provision | None, unit: str, mac: str | None, version: str | None) -> Guest:
    """By its provisioning, else by OpenBeken's own names. UnitFailed("home-wrong-name") where these need a MAC that
    the board does not tell."""
    told = (provision or Provision()).model_copy(update={"pins": ()})  # pins are the board's own, names are not
    try:
        config = told.config(unit, mac, None)
        name = None if home.name is None else Provision(name=home.name).config(unit, mac, None).long_name
    except UsageProblem as problem:
        raise UnitFailed("home-wrong-name", f"nobody can say what it should be called: {problem}") from None
    expected = Expected(config.mqtt_client, config.short_name, config.long_name, mac, version)
    return Guest(expected, config.web_password, name)
