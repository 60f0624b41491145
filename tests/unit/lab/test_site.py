"""The lab's plan: names, addresses, and networks that are free."""

import json
from pathlib import Path
from typing import Any

import pytest

from roost_lab import network, site
from roost_lab.errors import LabError
from roost_lab.paths import Paths

PATHS = Paths(Path("/srv/roost"))


def test_nodes_have_names_and_addresses() -> None:
    plan = site.plan(PATHS, "10.77.0.0/24", 3)
    assert [(node.name, node.address) for node in plan.nodes] == [
        ("node-a", "10.77.0.11"),
        ("node-b", "10.77.0.12"),
        ("node-c", "10.77.0.13"),
    ]
    assert plan.network.host_address == "10.77.0.1"


@pytest.mark.parametrize("count", [0, -1, 9])
def test_too_few_and_too_many_nodes_are_refused(count: int) -> None:
    with pytest.raises(LabError, match="1 to 8"):
        site.plan(PATHS, "10.77.0.0/24", count)


def test_an_unknown_node_is_named_with_those_there_are() -> None:
    with pytest.raises(LabError, match="node-a, node-b"):
        site.plan(PATHS, "10.77.0.0/24", 2).node("node-z")


@pytest.mark.parametrize("copies", [0, 4])
def test_too_few_and_too_many_copies_are_refused(copies: int) -> None:
    with pytest.raises(LabError, match="1 to 3"):
        site.plan(PATHS, "10.77.0.0/24", 2, copies=copies)


def test_every_copy_has_a_name_and_a_port_of_its_own() -> None:
    copies = site.plan(PATHS, "10.77.0.0/24", 2, copies=site.MAX_COPIES).all_copies()
    ports = [copy.port for copy in copies]
    others = [site.HTTP_PORT, site.HTTPS_PORT, site.POSTGRES_PORT, site.AMQP_PORT, site.AGENT_PORT]
    assert len({*ports, *others, site.ERLANG_PORT}) == len(ports) + len(others) + 1
    assert [copy.name for copy in copies][:5] == [*site.SERVICE_PORTS, "broker@2"]
    assert copies[4].address == "127.0.0.1:8111"


def test_what_is_not_given_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "used_networks", list)
    paths = Paths(tmp_path)
    paths.make()

    def seen(**wish: Any) -> tuple[int, int, bool]:
        plan = site.settle(paths, **wish)
        assert site.load(paths) == plan
        return len(plan.nodes), plan.copies, plan.fencing

    assert seen() == (2, 1, True)
    assert seen(copies=2, fencing=False) == (2, 2, False)
    assert seen(nodes=3) == (3, 2, False)
    assert seen(copies=1, fencing=True) == (3, 1, True)


def test_a_plan_of_before_there_were_copies_is_understood(tmp_path: Path) -> None:
    Paths(tmp_path).make()
    kept = {"network": "10.77.0.0/24", "nodes": 2, "virt_type": "auto"}
    Paths(tmp_path).state.joinpath("lab.json").write_text(json.dumps(kept))
    plan = site.load(Paths(tmp_path))
    assert plan is not None
    assert (plan.copies, plan.fencing) == (1, True)


def test_interface_names_fit_the_kernel() -> None:
    plan = site.plan(PATHS, "10.77.0.0/24", site.MAX_NODES)
    assert all(len(network.link(node.name)) <= 15 for node in plan.nodes)


@pytest.mark.parametrize(
    ("used", "chosen"),
    [
        ([], "10.77.0.0/24"),
        (["192.168.1.0/24", "172.17.0.0/16"], "10.77.0.0/24"),
        (["10.77.0.5"], "10.78.0.0/24"),
        (["10.0.0.0/8"], "172.30.77.0/24"),
        (["10.0.0.0/8", "172.16.0.0/12", "fe80::/64"], "192.168.177.0/24"),
    ],
)
def test_the_first_free_network_is_taken(used: list[str], chosen: str) -> None:
    assert network.choose(used) == chosen


def test_no_free_network_is_said() -> None:
    with pytest.raises(LabError, match="in use"):
        network.choose(["0.0.0.0/0"])


def test_a_checkout_too_deep_for_sockets_is_said() -> None:
    with pytest.raises(LabError, match="too long"):
        Paths(Path("/" + "d" * 90)).socket("lab")
