"""supervisord.conf, read back as Supervisor reads it."""

import configparser
from pathlib import Path
from typing import Any

import pytest

from roost_lab import supervisor
from roost_lab.errors import LabError
from roost_lab.supervisor import Program


def read(*programs: Program, dies: bool = True) -> configparser.RawConfigParser:
    text = supervisor.render(
        programs,
        socket_file=Path("/s/lab.sock"),
        pid_file=Path("/s/lab.pid"),
        log=Path("/s/100%.log"),
        dies=dies,
    )
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return parser


def program(*command: str, **changes: Any) -> Program:
    return Program("x", command or ("/bin/x",), Path("/s/x.log"), **changes)


def test_a_program_dies_with_the_supervisor() -> None:
    command = read(program("/bin/x", "-v"))["program:x"]["command"]
    assert command == "setpriv --pdeathsig KILL /bin/x -v"


def test_changing_the_user_and_dying_with_the_supervisor_are_one_step() -> None:
    # The kernel drops the signal at a change of user: two setprivs would lose it.
    command = read(program("setpriv", "--reuid=5", "/bin/x"))["program:x"]["command"]
    assert command == "setpriv --pdeathsig KILL --reuid=5 /bin/x"


def test_in_a_node_programs_need_no_signal() -> None:
    assert read(program(), dies=False)["program:x"]["command"] == "/bin/x"


def test_words_with_blanks_stay_one_word() -> None:
    command = read(program("/bin/x", "a b", ""), dies=False)["program:x"]["command"]
    assert command == '/bin/x "a b" ""'


def test_percent_signs_are_doubled_everywhere() -> None:
    section = read(program("/bin/%x", environment={"URL": "a%2Fb"}), dies=False)
    assert section["program:x"]["command"] == "/bin/%%x"
    assert section["program:x"]["environment"] == 'URL="a%%2Fb"'
    assert section["supervisord"]["logfile"] == "/s/100%%.log"


@pytest.mark.parametrize("text", ['a"b', "a\nb"])
def test_what_cannot_be_written_is_refused(text: str) -> None:
    with pytest.raises(LabError):
        read(program(environment={"A": text}))


def test_a_service_is_tried_again_and_a_node_is_not() -> None:
    assert read(program())["program:x"]["autorestart"] == "true"
    node = read(program(restart=False))["program:x"]
    assert (node["autorestart"], node["startretries"]) == ("false", "0")


def test_nothing_starts_before_it_is_told_to() -> None:
    assert read(program())["program:x"]["autostart"] == "false"
