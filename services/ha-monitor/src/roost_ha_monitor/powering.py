"""Switches hosts off and on because somebody wants it, through their fence devices.

An order is a row until it is answered; the copy that decides carries it out, and one that takes
over does so again. While a host is being switched off, its silence is expected (`Watch`).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from roost_common import log
from roost_common.clock import Clock
from roost_common.contracts.base import Delivery, Message, Problem
from roost_common.contracts.host import Health, HostPower, SetHostPower
from roost_common.loops import Loop
from roost_common.outbox import Transaction, UnitOfWork
from roost_ha_monitor.fencing.devices import Devices
from roost_ha_monitor.fencing.plan import Proven
from roost_ha_monitor.fencing.round import Journal, Rounds
from roost_ha_monitor.leading import Leading
from roost_ha_monitor.model import Host, OrderState, PowerOrder
from roost_ha_monitor.node_tasks import NodeTasks
from roost_ha_monitor.repository import Armings, FenceDevices, Hosts, Incidents, PowerOrders
from roost_ha_monitor.watch import Watch

logger = log.get_logger(__name__)

LOOK_S: Final = 1.0
ALIVE: Final = (Health.UP, Health.RECOVERED)


class Powering:
    """Orders to switch hosts."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        leading: Leading,
        clock: Clock,
        *,
        devices: Devices,
        rounds: Rounds,
        tasks: NodeTasks,
        watch: Watch,
    ) -> None:
        self._unit = unit_of_work
        self._leading = leading
        self._clock = clock
        self._devices = devices
        self._rounds = rounds
        self._tasks = tasks
        self._watch = watch
        self._going_off: set[str] = set()
        self._loop = Loop("power-orders", self.look, LOOK_S)

    @property
    def loops(self) -> list[Loop]:
        """What is to run."""
        return [self._loop]

    async def ordered(self, delivery: Delivery, command: SetHostPower) -> None:
        """Keep an order, or answer it again. An older one than the last is dropped."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is None:
                return
            await Hosts(transaction.session).lock_all([command.node])
            orders = PowerOrders(transaction.session)
            order = await orders.lock(command.node)
            if order is None:
                order = PowerOrder(node=command.node)
                orders.add(order)
            elif command.order <= order.number:
                if command.order == order.number and order.answered is not None:
                    transaction.emit(order.answered)
                return
            order.number, order.power = command.order, command.power
            order.agent_id, order.asked_at = command.agent_id, delivery.envelope.time
            order.state, order.answer, order.answer_name = OrderState.WAITING, None, ""
            transaction.after_commit(self._loop.wake)

    async def look(self) -> None:
        """Begin with every order that waits."""
        if self._leading.since is None:
            return
        async with self._unit() as transaction:
            waiting = await PowerOrders(transaction.session).waiting()
        self._watch.plan_silence({order.node for order in waiting if order.power is HostPower.OFF})
        for order in waiting:
            self._tasks.start(order.node, partial(self._carry_out, order.node, order.number))

    async def _carry_out(self, node: str, number: int) -> None:
        async with self._unit() as transaction:
            host, order = await self._lock(transaction, node, number)
            if order is None:
                return
            problem = await self._problem(transaction, host, order)
            if problem is not None:
                transaction.emit(order.refuse(problem))
                logger.info("host.power-refused", node=node, code=problem.code)
                return
            power = order.power
        if power is HostPower.OFF:
            self._going_off.add(node)
        try:
            await self._switch(node, number, power)
        finally:
            self._going_off.discard(node)

    async def _switch(self, node: str, number: int, power: HostPower) -> None:
        devices = await self._devices.of(node)
        if power is HostPower.OFF:
            ending = await self._rounds.off(devices, _WhileLeading(self._leading))
            why = "" if isinstance(ending, Proven) else "None of its devices switched it off."
        else:
            why = await self._rounds.on(devices)
        if not self._leading.held:
            return
        now = self._clock.now()
        async with self._unit() as transaction:
            host, order = await self._lock(transaction, node, number)
            if host is None:
                return
            answer: Message | None = None
            if not why:
                # It is so, whether anybody still waits for this order or not.
                off = power is HostPower.OFF
                switch = host.switched_off if off else host.switched_on
                answer = switch(now, f"It was switched {power.value} on purpose.")
                transaction.after_commit(self._watch.forget)
            if order is not None:
                refused = Problem(code="host.not-switched", detail=why)
                answer = order.done(answer) if answer else order.refuse(refused)
            if answer is not None:
                transaction.emit(answer)
                logger.info("host.power", node=node, power=power, answer=answer.name)

    async def _lock(
        self, transaction: Transaction, node: str, number: int
    ) -> tuple[Host | None, PowerOrder | None]:
        host = (await Hosts(transaction.session).lock_all([node])).get(node)
        order = await PowerOrders(transaction.session).lock(node)
        current = order is not None and order.number == number and order.answered is None
        return host, order if current else None

    async def _problem(
        self, transaction: Transaction, host: Host | None, order: PowerOrder
    ) -> Problem | None:
        """Why the order cannot be carried out."""
        session = transaction.session
        code, detail = "", ""
        if host is None or host.health is None:
            code, detail = "host.unknown", "No such host is watched."
        elif await Incidents(session).unfenced(order.node) is not None:
            code, detail = "host.incident-open", "It has failed, and that is being dealt with."
        elif order.power is HostPower.OFF and host.health not in (*ALIVE, Health.OFF):
            code, detail = "host.not-up", f"It is {host.health.value}."
        elif order.power is HostPower.OFF and order.agent_id not in (None, host.agent_id):
            code, detail = "host.other-run", "Its agent has been started again meanwhile."
        elif order.power is HostPower.ON and host.health is not Health.OFF:
            code, detail = "host.not-off", f"It is {host.health.value}, and was not switched off."
        elif await Armings(session).disarmed():
            code, detail = "ha.disarmed", "High availability is disarmed."
        elif not await FenceDevices(session).of(order.node):
            code, detail = "fencing.no-device", "It has no fence device."
        return Problem(code=code, detail=detail) if code else None


class _WhileLeading(Journal):
    """Goes on as long as this copy decides."""

    def __init__(self, leading: Leading) -> None:
        self._leading = leading

    async def unwanted(self) -> bool:
        return not self._leading.held
