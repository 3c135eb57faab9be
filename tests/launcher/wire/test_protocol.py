"""Every message survives its way; what is none is named, and each side says only what is its to say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import a_job

from launcher.records.record import Check, File
from launcher.wire import agents, protocol
from launcher.wire.agents import FROM_AGENT, TO_AGENT
from launcher.wire.jobs import Picture
from launcher.wire.messages import ProtocolError, pack, unpack
from launcher.wire.protocol import FROM_LAUNCHER, FROM_RANK

WHERE = protocol.Address("here", "eth0", "10.0.0.1", 4000)
SIDES = (FROM_RANK, FROM_LAUNCHER, FROM_AGENT, TO_AGENT)
ALL = tuple(kind for side in SIDES for kind in side)

MESSAGES = [
    protocol.Hello(protocol.VERSION, "0" * 32, 1, 4242),
    protocol.Stage("loading"),
    protocol.Source("/nowhere"),
    protocol.Step(0, 12),
    protocol.Alive(),
    protocol.Saved(3, File("0003.png", "ab", 10, 8, 8, 5, 0)),
    protocol.Saved(3, File("0003.png", "ab", 10, 8, 8, 5, 0, frames=9, fps=16)),
    protocol.Checked(Check("step", "float32", 1e-6, 2e-7, 1e-4, True)),
    protocol.Done({"load": 0.5}, 1 << 40, ("cd",), 1),
    protocol.Error("ValueError: 'ünï' \ud800"),
    a_job(),
    protocol.Stop(),
    protocol.Hello(protocol.VERSION, "0" * 32, 1, 4242, WHERE),
    protocol.Links((WHERE, WHERE)),
    protocol.Linked(),
    protocol.Ask(7, "set", ("a",), "ff"),
    protocol.Told(7, "ff"),
    agents.Join(protocol.VERSION, 1, 2, "there", 1.5, {"torch": "2"}, ("cpu (2 cores)",)),
    agents.Look("/nowhere/.x", "ab", "/model"),
    agents.Seen(True, {"config.json": "ab"}),
    agents.Start("ab", 2, 4000, "cpu", (), (1,), False, "/nowhere/start1.log"),
    agents.Ended("killed by SIGKILL"),
    agents.End(True),
    agents.Leave(1, "why"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.kind)
def test_a_message_survives_its_way(message):
    assert unpack(pack(message), ALL) == message


def test_every_message_is_tried_here():
    assert {type(message) for message in MESSAGES} == set(ALL)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.kind)
def test_each_side_says_what_is_its_to_say(message):
    mine = next(side for side in SIDES if type(message) in side)
    assert unpack(pack(message), mine) == message
    with pytest.raises(ProtocolError, match="is not expected"):
        unpack(pack(message), tuple(kind for kind in ALL if kind not in mine))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"kind":"step","picture":0}', "step.step: missing"),
        (b'{"kind":"step","picture":0,"step":1,"__class__":"os.system"}', "step.__class__: unknown key"),
        (b'{"kind":"step","picture":"0","step":1}', "step.picture: expected int, got '0'"),
        (
            b'{"kind":"done","seconds":{},"peak_bytes":1,"digests":[1],"loads":1}',
            "done.digests[0]: expected str, got 1",
        ),
        (b'{"kind":["step"]}', "kind=['step'] is not expected"),
        (b'{"picture":0}', "kind=None is not expected"),
        (b"[1]", "expected an object"),
        (b"\x80\x04\x95", "not JSON"),
        (
            b'{"kind":"saved","picture":0,"file":{"file":"../x.png","sha256":"","bytes":1,"height":1,"width":1,"seed":1,'
            b'"prompt":0}}',
            "saved.file: '../x.png' is not a plain file name",
        ),
    ],
)
def test_what_is_no_message_is_named(line, told):
    with pytest.raises(ProtocolError) as caught:
        unpack(line, FROM_RANK)
    assert told in str(caught.value)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: b'{"kind":' + text.encode(errors="replace")))
def test_no_bytes_do_more_than_break_the_protocol(line):
    with pytest.raises(ProtocolError):
        unpack(line, FROM_RANK)


def test_what_pictures_share_is_said_once():
    """A job of twenty thousand pictures fits into a message, however long its prompt is."""
    pictures = tuple(Picture(0, seed, f"{seed:05d}.png") for seed in range(20_000))
    job = a_job(prompts=("\x01" * (1 << 20),), pictures=pictures)
    assert len(pack(job)) < 8 << 20
