"""Nodes between which desktops are moved: what their agents and libvirt do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from tests.unit.inventory.stage import Domain, FakeNode

from roost_common.contracts.base import Message, Problem
from roost_common.contracts.desktop import DomainState, EnsureDesktop, Power
from roost_common.contracts.migration import CancelMigration, MigrateDesktop, MigrationEnded

FAILED = Problem(code="desktop.migration-failed", detail="The target said no.")
CANCELLED = Problem(code="desktop.migration-cancelled", detail="It was cancelled.")
UNKNOWN = Problem(code="desktop.migration-unknown", detail="It is not on this host.")
NOT_RUNNING = Problem(code="desktop.not-running", detail="It does not run here.")


@dataclass
class Move:
    """A guest whose memory is being sent."""

    migration_id: UUID
    desktop_id: UUID
    boot_id: UUID
    generation: int
    source: FakeNode
    target: FakeNode
    target_life: int


@dataclass
class Movers:
    """libvirt's promise: a guest is resumed on exactly one side.

    What an agent remembers of migrations is lost with it; libvirt goes on without the agent.
    """

    nodes: dict[str, FakeNode]
    moves: dict[UUID, Move] = field(default_factory=dict)
    _ended: dict[tuple[UUID, UUID], Problem | None] = field(default_factory=dict)
    _cancelled: set[tuple[UUID, UUID]] = field(default_factory=set)

    def take(self, message: Message, name: str) -> list[Message]:
        """A command for a node; its answers."""
        self.forget_the_dead()
        match message:
            case EnsureDesktop():
                return self._ensure(message, self.nodes[name])
            case MigrateDesktop():
                return self._migrate(message, self.nodes[name])
            case CancelMigration():
                return self._cancel(message, self.nodes[name])
        raise AssertionError(f"no node takes {message}")

    def _ensure(self, command: EnsureDesktop, node: FakeNode) -> list[Message]:
        move = self.moves.get(command.desktop_id)
        meant = command.agent_id in {None, node.agent_id}
        if move is not None and meant and node in (move.source, move.target):
            if command.power is Power.ON:
                return [node.event(command.desktop_id)]
            if node is move.source:
                ended = self._end(move, CANCELLED)
                seen = node.take(command)
                return [*ended, *([] if seen is None else [seen])]
        seen = node.take(command)
        return [] if seen is None else [seen]

    def _migrate(self, command: MigrateDesktop, node: FakeNode) -> list[Message]:
        if command.agent_id not in {None, node.agent_id}:
            return []
        known = (node.agent_id, command.migration_id)
        if known in self._ended:
            return [self._word(node, command.migration_id, command.desktop_id)]
        move = self.moves.get(command.desktop_id)
        if move is not None:
            assert move.migration_id == command.migration_id, "two migrations of one desktop"
            return []
        domain = node.domains.get(command.desktop_id)
        problem: Problem | None = None
        target = self.nodes[command.target_node]
        if known in self._cancelled:
            problem = CANCELLED
        elif domain is None:
            problem = UNKNOWN
        elif domain.boot_id != command.boot_id or domain.state is not DomainState.RUNNING:
            problem = NOT_RUNNING
        elif command.desktop_id in target.domains:
            problem = FAILED
        if problem is not None or domain is None:
            self._ended[known] = problem
            return [
                node.event(command.desktop_id),
                self._word(node, command.migration_id, command.desktop_id),
            ]
        self.moves[command.desktop_id] = Move(
            command.migration_id,
            command.desktop_id,
            command.boot_id,
            command.generation,
            node,
            target,
            target.lives,
        )
        node.leaving.add(command.desktop_id)
        return [node.event(command.desktop_id)]

    def _cancel(self, command: CancelMigration, node: FakeNode) -> list[Message]:
        self._cancelled.add((node.agent_id, command.migration_id))
        move = self.moves.get(command.desktop_id)
        if move is None or move.source is not node or move.migration_id != command.migration_id:
            return []
        return self._end(move, CANCELLED)

    # --- what happens -------------------------------------------------------------------------

    def finish(self, desktop: UUID) -> dict[str, list[Message]]:
        """It has arrived; what each of the two nodes says."""
        move = self.moves[desktop]
        domain = move.source.domains.pop(desktop)
        move.source.removed[desktop] = max(move.generation, move.source.removed.get(desktop, 0))
        move.target.domains[desktop] = Domain(move.generation, domain.boot_id)
        return {
            move.target.name: [move.target.event(desktop)],
            move.source.name: self._end(move, None),
        }

    def fail(self, desktop: UUID) -> dict[str, list[Message]]:
        """It stays where it was."""
        move = self.moves[desktop]
        return {move.source.name: self._end(move, FAILED)}

    def forget_the_dead(self) -> None:
        """A migration ends with either side; the source that is left knows why."""
        for desktop, move in list(self.moves.items()):
            domain = move.source.domains.get(desktop)
            if domain is None or domain.boot_id != move.boot_id:
                self._drop(move)
            elif domain.state is not DomainState.RUNNING:
                self._end(move, NOT_RUNNING)
            elif move.target.lives != move.target_life:
                self._end(move, FAILED)

    def refuse(self, name: str) -> None:
        """A node whose lease has ended: nothing arrives there."""
        for move in list(self.moves.values()):
            if move.target.name == name:
                self._end(move, FAILED)

    def _end(self, move: Move, problem: Problem | None) -> list[Message]:
        self._drop(move)
        self._ended[move.source.agent_id, move.migration_id] = problem
        return [
            move.source.event(move.desktop_id),
            self._word(move.source, move.migration_id, move.desktop_id),
        ]

    def _drop(self, move: Move) -> None:
        del self.moves[move.desktop_id]
        move.source.leaving.discard(move.desktop_id)

    def _word(self, node: FakeNode, migration: UUID, desktop: UUID) -> MigrationEnded:
        return MigrationEnded(
            migration_id=migration,
            desktop_id=desktop,
            node=node.name,
            problem=self._ended[node.agent_id, migration],
        )
