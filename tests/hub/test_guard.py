"""A token stays with its server, every answer has a size and every call an end: against a hostile hub on loopback."""

import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import hub_server
import pytest
from fake_zoo import make_entry
from huggingface_hub.utils import get_session

from regzoo import hub
from regzoo.errors import RegzooError
from regzoo.hub import TransportError, guard, remote
from regzoo.hub.push import package, push

PUSHES = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of huggingface_hub's own upload
NAME, REPO = "hf://lab/lung-ct-ddf", "lab/lung-ct-ddf"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub of one private model, and a token for it."""
    for name, folder in (("REGZOO_ZOO", "zoo"), ("REGZOO_CACHE", "cache")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    monkeypatch.setattr(remote, "WAITS", (0.01, 0.01))
    monkeypatch.chdir(tmp_path)
    with hub_server.running() as running:
        monkeypatch.setenv("REGZOO_HUB", f"{running.url}/lab")
        running.commit(REPO, make_entry(tmp_path / "entry"))
        running.private.add(REPO)
        yield running
    for thread in threading.enumerate():
        if thread.name.startswith("hf://"):  # a call that was given up, whose end would close others' connections
            thread.join(30)


@pytest.fixture
def elsewhere():
    """A second server, on another port and under another host name, that notes what it is sent."""
    with hub_server.running() as other:
        other.seen = []

        def note(handler, kind, path):
            other.seen.append(dict(handler.headers))
            return False

        other.fault = note
        other.url = other.url.replace("127.0.0.1", "localhost")
        handler = other.http.RequestHandlerClass
        get = handler.do_GET
        handler.do_GET = lambda self: (other.seen.append(dict(self.headers)), get(self))
        handler.do_POST = lambda self: (other.seen.append(dict(self.headers)), self.refuse(404))
        yield other


def with_headers(server, **headers):
    """Lets the server add headers to every answer to a question for a file."""

    def answer(handler, kind, path):
        if kind in ("head", "get"):
            reply = handler.reply
            handler.reply = lambda status, body=b"", **own: reply(status, body, **(own | headers))
        return False

    server.fault = answer


class TestToken:
    @pytest.mark.parametrize(
        "headers",
        [
            {"X_Xet_Hash": "a" * 64, "X_Xet_Refresh_Route": "{}/api/models/lab/x/xet-read-token/main"},
            {"X_Xet_Hash": "a" * 64, "Link": '<{}/token>; rel="xet-auth"'},
        ],
    )
    def test_a_place_to_fetch_a_token_for_is_not_gone_to(self, server, elsewhere, headers):
        with_headers(server, **{name: value.format(elsewhere.url) for name, value in headers.items()})
        assert (hub.pull(NAME) / "model.safetensors").read_bytes() == b"weights"
        assert elsewhere.seen == []

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_takes_no_token_along(self, server, elsewhere, status):
        elsewhere.commit(REPO, server.files(REPO, "main"))

        def away(handler, kind, path):
            return kind == "get" and not handler.reply(status, Location=f"{elsewhere.url}{handler.path}")

        server.fault = away
        assert hub.pull(NAME).is_dir()
        assert elsewhere.seen
        assert not [headers for headers in elsewhere.seen if "Authorization" in headers]

    @PUSHES
    def test_a_push_asks_for_no_token_of_another_store(self, server, elsewhere):
        def away(handler, kind, path):
            return "xet" in path and not handler.reply(301, Location=f"{elsewhere.url}{handler.path}")

        server.fault = away
        address = push(package("entry", "hf://lab/another"), private=False)
        assert hub.pull(str(address)).is_dir()
        assert not [path for _, path in server.requests if "xet" in path]
        assert elsewhere.seen == []

    @PUSHES
    def test_a_push_takes_no_token_elsewhere(self, server, elsewhere):
        batch = server.http.RequestHandlerClass.batch

        def with_verify(handler, asked):
            reply = handler.reply

            def changed(status, body, **headers):
                for each in body["objects"]:
                    each["actions"]["verify"] = {"href": f"{elsewhere.url}/verify", "header": {}}
                reply(status, body, **headers)

            handler.reply = changed
            batch(handler, asked)

        server.http.RequestHandlerClass.batch = with_verify
        with pytest.raises(RegzooError, match="answered 404"):  # the other server knows nothing of it
            push(package("entry", "hf://lab/another"), private=False)
        assert elsewhere.seen
        assert not [headers for headers in elsewhere.seen if "Authorization" in headers]

    def test_whatever_the_client_sends_it_takes_no_token_elsewhere(self, server, elsewhere):
        token = {"Authorization": f"Bearer {hub_server.TOKEN}"}
        with guard.guarded(5.0):
            get_session().get(f"{elsewhere.url}/api/models/lab/x", headers=token)
            mine = get_session().get(f"{server.url}/api/models/{REPO}", headers=token)
        assert [headers.get("Authorization") for headers in elsewhere.seen][:1] == [None]
        assert mine.status_code == 200  # for the model is private

    def test_a_call_that_was_given_up_takes_no_token_elsewhere(self, server, elsewhere):
        token = {"Authorization": f"Bearer {hub_server.TOKEN}"}
        late, ended = threading.Event(), threading.Event()

        def call():
            late.wait(10)
            get_session().get(f"{elsewhere.url}/api/models/lab/x", headers=token)
            ended.set()

        with pytest.raises(guard.TransportError, match="did not finish"), guard.guarded(5.0):
            guard.within("a call", 0.3, call)
        late.set()
        assert ended.wait(10)
        assert [headers.get("Authorization") for headers in elsewhere.seen][:1] == [None]

    def test_the_own_server_gets_it(self, server):
        assert hub.pull(NAME).is_dir()  # the model is private


def endless(status, piece=b"[" * 2**16, **headers):
    """An answer of one kind of request that never ends, until the client hangs up."""

    def answer(handler, kind, path):
        if kind not in ("info", "head"):
            return False
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while kind == "info":
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        return True

    return answer


class TestSize:
    @pytest.mark.parametrize("status", [200, 404, 401, 500])
    def test_an_answer_without_end(self, server, status, monkeypatch):
        monkeypatch.setattr(guard, "ANSWER_LIMIT", 2**22)
        server.fault = endless(status)
        with pytest.raises(TransportError, match=r"answered with more than \d+ bytes\. Nothing was kept\."):
            hub.pull(NAME)

    def test_an_answer_that_is_packed(self, server):
        packed = gzip.compress(b" " * 2**24)
        server.fault = lambda handler, kind, path: (
            kind == "info" and not handler.reply(200, packed, Content_Encoding="gzip")
        )
        with pytest.raises(TransportError, match=r"answered with packed bytes \(gzip\)"):
            hub.pull(NAME)

    def test_a_listing_without_end(self, server, monkeypatch):
        monkeypatch.setattr(server, "listing", b"[" + b" " * (guard.ANSWER_LIMIT + 1) + b"]")
        with pytest.raises(TransportError, match="answered with more than"):
            hub.offered()

    @pytest.mark.parametrize("etag", ['"../../../x"', '"/x/y"', '"' + "a" * 300 + '"', '"a b"'])
    def test_an_etag_that_is_a_path(self, server, tmp_path, etag):
        with_headers(server, ETag=etag, X_Linked_Etag=etag)
        before = set(tmp_path.rglob("*"))
        with pytest.raises(TransportError, match="no plain word"):
            hub.pull(NAME)
        assert not [path for path in set(tmp_path.rglob("*")) - before if path.suffix != ".lock" and path.is_file()]


class TestTime:
    def test_a_server_that_asks_to_wait_for_a_day(self, server):
        asked = []

        def limited(handler, kind, path):
            if kind not in ("head", "get"):
                return False
            asked.append(kind)
            facts = {"RateLimit": '"api";r=0;t=86400', "Retry_After": 86400}
            return len(asked) < 3 and not handler.reply(429, {"error": "slow down"}, **facts)

        server.fault = limited
        started = time.monotonic()
        assert hub.pull(NAME).is_dir()
        assert time.monotonic() - started < 30

    @pytest.mark.parametrize("in_headers", [True, False])
    def test_a_byte_at_a_time(self, server, monkeypatch, in_headers):
        monkeypatch.setattr(guard, "_DEADLINE", 1.5)
        server.fault = dripping(in_headers)
        without_waits(monkeypatch)
        started = time.monotonic()
        with pytest.raises(TransportError, match=r"did not finish its answer in 2 seconds\. Try again later\."):
            hub.pull(NAME)
        assert time.monotonic() - started < 5

    @PUSHES
    @pytest.mark.parametrize("of", ["validate-yaml", "preupload", "batch"])
    def test_a_push_that_is_answered_a_byte_at_a_time(self, server, monkeypatch, of):
        monkeypatch.setattr(guard, "_DEADLINE", 0.5)
        monkeypatch.setattr("regzoo.hub.push._PATIENCE", 1.0)
        server.fault = dripping(False, of)
        without_waits(monkeypatch)
        started = time.monotonic()
        with pytest.raises(TransportError, match=r"did not finish its answer in [12] seconds\. Try again later\."):
            push(package("entry", "hf://lab/another"), private=False)
        assert time.monotonic() - started < 5
        assert not server.refs.get("lab/another")

    def test_calls_that_each_end_in_time_end_together_too(self, server, monkeypatch):
        monkeypatch.setattr(guard, "_IN_ALL", 1.0)
        server.fault = lambda handler, kind, path: kind == "head" and time.sleep(0.4)
        with pytest.raises(TransportError, match=r"did not finish its answer in \d seconds\. Try again later\."):
            hub.pull(NAME)

    def test_what_many_bytes_take_on_a_slow_line_is_waited_for(self, server, monkeypatch):
        with guard.together():
            (before,) = guard._ends.get()
            guard.expect(100 * guard._SLOWEST)
            assert guard._ends.get() == [before + 100]
        guard.expect(1)  # of calls that nothing holds together
        told = []
        monkeypatch.setattr(guard, "expect", told.append)
        assert told == [sum(path.stat().st_size for path in hub.pull(NAME).iterdir() if path.name != "README.md")]

    @pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process")
    @pytest.mark.parametrize(
        ("command", "of"), [(("pull", NAME), REPO), (("push", "entry", "hf://lab/another"), "preupload")]
    )
    def test_ctrl_c_works_meanwhile(self, server, command, of):
        begun = threading.Event()
        drip = dripping(True, of, 50)
        server.fault = lambda handler, kind, path: of in path and (begun.set() or drip(handler, kind, path))
        environment = os.environ | {"PYTHONPATH": str(Path(hub.__file__).parents[2])}
        command = [sys.executable, "-m", "regzoo", *command]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as client:
            assert begun.wait(60)
            time.sleep(0.5)
            started = time.monotonic()
            client.send_signal(signal.SIGINT)
            assert client.wait(20) == 130
            assert time.monotonic() - started < 5
            assert client.stderr.read() == "stopped\n"


def without_waits(monkeypatch):
    """A call that was given up asks on, of a server that is gone, and the fixture waits for its end."""
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None))


def dripping(in_headers, of=f"/api/models/{REPO}", seconds=4):
    """Answers of a byte at a time, each soon enough for a timeout of silence."""

    def answer(handler, kind, path):
        if of not in path:
            return False
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"X-Long: " if in_headers else b"Content-Length: 9999\r\n\r\n"))
        for _ in range(seconds * 20):
            time.sleep(0.05)
            handler.wfile.write(b"a")
        handler.close_connection = True
        return True

    return answer
