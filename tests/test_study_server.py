"""The server of a study: it gives each rater the own page only, refuses everything else, and loses no answer."""

from __future__ import annotations

import http.client
import json
import re
import socket
import stat
import threading
from datetime import UTC, datetime, timedelta

import pytest
from toy_study import ASKED, toy_study

from raflib.errors import RafError
from raflib.study import Server, loopback, serve

BEGIN = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    study = toy_study(tmp_path_factory.mktemp("served") / "study")
    with serve(study.folder) as server:
        yield server


@pytest.fixture
def fresh(tmp_path):
    """A study of its own, for tests that store answers."""
    with serve(toy_study(tmp_path / "study").folder) as server:
        yield server


def path_of(server: Server, rater: str = "rater01") -> str:
    return "/" + server.links[rater].split("/", 3)[3]


def ask(server: Server, method: str, path: str, body: bytes | None = None, **headers: str | None):
    """Status, content and headers of a reply; a header that is None is not sent."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    host = f"127.0.0.1:{server.port}"
    sent = {"Host": host} | ({"Origin": f"http://{host}", "Content-Type": "application/json"} if body else {})
    sent |= {} if body is None else {"Content-Length": str(len(body))}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in sent.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content, reply.headers


def answer(server: Server, place: int = 0, of: str = "rater01", **changes: object) -> dict:
    """An answer to one of the questions of a rater."""
    asked = server.study.lists[int(of[-2:]) - 1][place]
    values = {"study": server.study.id, "rater": of, "question": asked, "axis": "pose", "choice": "left", "ms": 900}
    return values | {"time": BEGIN.isoformat()} | changes


def post(server: Server, values: object, rater: str = "rater01", **headers: str | None) -> int:
    body = values if isinstance(values, bytes) else json.dumps(values).encode()
    return ask(server, "POST", path_of(server, rater) + "answers", body, **headers)[0]


def stored(server: Server, rater: str = "rater01") -> list[dict]:
    path = server.study.folder / "answers" / f"{rater}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def raw(server: Server, request: bytes) -> bytes:
    """The whole reply to bytes that http.client would not send."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as link:
        link.sendall(request)
        link.shutdown(socket.SHUT_WR)
        parts = []
        while part := link.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_every_rater_has_an_unguessable_link_on_this_machine_only(served):
    assert list(served.links) == ["rater01", "rater02", "rater03"]
    tokens = {re.fullmatch(r"http://127\.0\.0\.1:\d+/([A-Za-z0-9_-]{43})/", link)[1] for link in served.links.values()}
    assert len(tokens) == 3
    assert served._listener.server_address[0] == "127.0.0.1"
    mode = stat.S_IMODE((served.study.folder / "links.json").stat().st_mode)
    assert mode == 0o600, "only this user reads the links"


def test_a_page_holds_the_own_questions_in_their_order_and_nothing_secret(served):
    status, content, headers = ask(served, "GET", path_of(served, "rater02") + "data.js")
    assert status == 200 and headers["Content-Type"] == "text/javascript"
    told = json.loads(content.removeprefix(b"window.STUDY = ").removesuffix(b";\n"))
    assert sorted(told) == ["axes", "choices", "id", "instructions", "mode", "questions", "rater", "title"]
    assert [each["id"] for each in told["questions"]] == list(served.study.lists[1])
    assert {tuple(sorted(each)) for each in told["questions"]} == {("id", "left", "reference", "right")}
    assert told["rater"] == "rater02"


def test_page_and_images_are_served_with_strict_headers(served):
    for name, kind in (("", "text/html"), ("page.css", "text/css"), ("page.js", "text/javascript")):
        status, content, headers = ask(served, "GET", path_of(served) + name)
        assert status == 200 and headers["Content-Type"] == kind and content
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store" and headers["Cross-Origin-Resource-Policy"] == "same-origin"
    first = next(each for each in served.study.questions if each.id == served.study.lists[0][0])
    status, content, headers = ask(served, "GET", path_of(served) + first.left)
    assert status == 200 and content == (served.study.folder / first.left).read_bytes()
    assert headers["Content-Type"] == "image/png" and "max-age" in headers["Cache-Control"]


ELSEWHERE = (
    "key.json", "study.json", "links.json", "answers/rater01.jsonl", "images/", "images", "../key.json",
    "images/../key.json", "images/../../study/key.json",
    "%2e%2e/key.json", "..%2fkey.json", "images/..%2f..%2fkey.json",
    "images/%2e%2e/key.json", "./key.json", "//key.json", "images\\..\\key.json", "key.json%00.png", "page.css?x=1",
    "page.html", "format.py", "__init__.py", "data.js/../key.json", "images/00a.png/../../key.json", ";/key.json",
)  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
def test_no_other_file_can_be_read(served, name):
    status, content, _ = ask(served, "GET", path_of(served) + name)
    assert (status, content) == (404, b"There is no such page.")


def test_nothing_is_served_without_a_link(served):
    token = path_of(served)
    guesses = [
        "/",
        "/key.json",
        "/data.js",
        token[:-1],
        token[:-2] + "/",
        f"/{'A' * 43}/",
        token.lower(),
        "/.." + token,
    ]
    for path in [*guesses, "http://evil.example/", "//127.0.0.1" + token, token * 2, "*", "/" + "a" * 5000]:
        assert ask(served, "GET", path)[0] == 404, path
    assert b" 414 " in raw(served, b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n").split(b"\r\n")[0]


def test_images_of_other_raters_are_not_served(served):
    questions = {each.id: each for each in served.study.questions}
    other = next(iter(set(served.study.lists[1]) - set(served.study.lists[0])))
    assert ask(served, "GET", path_of(served) + questions[other].left)[0] == 404
    assert ask(served, "GET", path_of(served, "rater02") + questions[other].left)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        None, "", "evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1:x",
        "127.0.0.1:80@evil.example", "0.0.0.0", "[::1]", "user@127.0.0.1", "127.0.0.1 evil.example",
    ],
)  # fmt: skip
def test_a_foreign_host_is_refused(served, host):
    """A host name of somebody else that points to this machine (DNS rebinding) opens nothing."""
    assert ask(served, "GET", path_of(served) + "data.js", Host=host)[0] == 403
    body = json.dumps(answer(served)).encode()
    origin = f"http://{host}"
    assert ask(served, "POST", path_of(served) + "answers", body, Host=host, Origin=origin)[0] == 403
    assert stored(served) == []


def test_two_hosts_are_refused_and_both_names_of_this_machine_are_served(served):
    path = path_of(served)
    twice = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n".encode()
    assert b" 403 " in raw(served, twice).split(b"\r\n")[0]
    for host in ("localhost", f"localhost:{served.port}", "127.0.0.1:8000"):  # a tunnel changes the port
        assert ask(served, "GET", path, Host=host)[0] == 200


def test_a_foreign_origin_is_refused(served):
    port = served.port
    foreign = [
        "null",
        "http://evil.example",
        f"https://127.0.0.1:{port}",
        f"http://localhost:{port}",
        "http://127.0.0.1",
    ]
    for origin in [*foreign, f"http://127.0.0.1:{port + 1}", f"http://127.0.0.1:{port}.evil.example", ""]:
        assert post(served, answer(served), Origin=origin) == 403, origin
        assert ask(served, "GET", path_of(served) + "answers", Origin=origin)[0] == 403, origin
    assert post(served, answer(served), Origin=None) == 403
    assert stored(served) == []


def test_oversized_and_unmeasured_posts_are_refused(served):
    good = json.dumps(answer(served)).encode()
    assert post(served, good + b" " * 5000) == 413
    assert post(served, good, Content_Length="999999999") == 413
    for length in (None, "-1", "1e2", "0x10", "", "9" * 30, f"{len(good)}, {len(good)}"):
        assert post(served, good, Content_Length=length) == 411, length
    assert post(served, good, Transfer_Encoding="chunked") == 411
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        assert post(served, good, Content_Type=kind) == 415, kind
    for path in ("", "data.js", "key.json", "answers/"):
        assert ask(served, "POST", path_of(served) + path, good)[0] == 404
    for method in ("PUT", "DELETE", "OPTIONS", "HEAD"):
        assert ask(served, method, path_of(served) + "answers")[0] == 501
    assert stored(served) == []


MALFORMED = {
    "empty": b" ", "no JSON": b"{", "a list": b"[]", "a number": b"1", "deep": b"[" * 4000, "bytes": b"\xff\xfe{}",
    "twice": b'{"ms": 1, "ms": 2}', "not a number": b'{"ms": NaN}', "deep object": b'{"a":' * 600 + b"1" + b"}" * 600,
}  # fmt: skip
CHANGED = {
    "study": "0" * 16, "rater": "rater02", "question": "q9999", "axis": "identity", "choice": "both", "ms": -1,
    "time": "2026-01-31T12:00:00",
}  # fmt: skip
ODD = (
    {"ms": True}, {"ms": 1.5}, {"ms": "1"}, {"ms": 10**9}, {"choice": None}, {"choice": ["left"]}, {"axis": ""},
    {"rater": "observer:truth"}, {"rater": "../key"}, {"question": "../key.json"}, {"time": "now"}, {"time": 0},
    {"more": 1}, {"time": "9" * 400}, {"choice": "left\n"},
)  # fmt: skip


def test_malformed_posts_are_refused(served):
    for what, body in MALFORMED.items():
        assert post(served, body) == 400, what
    for changes in ([{name: value} for name, value in CHANGED.items()], ODD):
        for change in changes:
            assert post(served, answer(served, **change)) == 400, change
    lacking = answer(served)
    del lacking["ms"]
    assert post(served, lacking) == 400
    unasked = next(iter(served.study.ids - set(served.study.lists[0])))
    assert post(served, answer(served, question=unasked)) == 400
    assert post(served, answer(served), rater="rater02") == 400, "a link stores answers of its own rater only"
    assert stored(served) == stored(served, "rater02") == []
    assert not list(served.study.folder.glob("answers/*"))


def test_half_a_request_stores_nothing(fresh):
    body = json.dumps(answer(fresh)).encode()
    head = (
        f"POST {path_of(fresh)}answers HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    assert b" 400 " in raw(fresh, head + body[:50]).split(b"\r\n")[0]
    assert stored(fresh) == []
    assert b" 200 " in raw(fresh, head + body).split(b"\r\n")[0]
    assert stored(fresh) == [answer(fresh)]


def test_a_silent_connection_is_closed(fresh, monkeypatch):
    monkeypatch.setattr(loopback._Handler, "timeout", 0.1)
    with socket.create_connection(("127.0.0.1", fresh.port), timeout=60) as link:
        link.sendall(b"POST /")
        assert link.recv(10) == b""


def test_an_answer_is_stored_once_and_the_newest_counts(fresh):
    first, later = answer(fresh), answer(fresh, choice="tie", time=(BEGIN + timedelta(seconds=3)).isoformat())
    between = answer(fresh, choice="right", time=(BEGIN + timedelta(seconds=1)).isoformat())
    assert [post(fresh, each) for each in (first, first, later, between, first, later)] == [200] * 6
    assert stored(fresh) == [first, later]
    other = answer(fresh, axis="expression")
    assert post(fresh, other) == 200
    status, content, _ = ask(fresh, "GET", path_of(fresh) + "answers")
    assert status == 200 and json.loads(content) == [later, other]
    assert json.loads(ask(fresh, "GET", path_of(fresh, "rater02") + "answers")[1]) == []


def test_raters_and_their_tabs_at_the_same_time(fresh):
    """Two tabs of each of three raters post all answers, in another order; every answer is stored once."""
    names, wrong = list(fresh.links), []

    def tab(rater: str, places: list[int]) -> None:
        for place in places:
            values = answer(fresh, place, rater, ms=place, choice="left" if rater == "rater01" else "right")
            if post(fresh, values, rater) != 200:
                wrong.append(values)

    forth = list(range(ASKED))
    tabs = [threading.Thread(target=tab, args=(name, way)) for name in names for way in (forth, forth[::-1])]
    for thread in tabs:
        thread.start()
    for thread in tabs:
        thread.join()
    assert not wrong
    for number, name in enumerate(names):
        lines = stored(fresh, name)
        assert sorted(line["question"] for line in lines) == sorted(fresh.study.lists[number])
        assert {line["choice"] for line in lines} == {"left" if number == 0 else "right"}


def test_answers_survive_a_killed_writer_and_a_full_disk(fresh, capsys):
    folder = fresh.study.folder / "answers"
    folder.write_text("a file where the folder should be")
    assert post(fresh, answer(fresh)) == 500
    assert "cannot be written" in capsys.readouterr().err
    folder.unlink()
    folder.mkdir()
    (folder / "rater01.jsonl").write_text(json.dumps(answer(fresh)) + "\n" + '{"study": "torn')
    later = answer(fresh, 1)
    assert post(fresh, later) == 200
    lines = (folder / "rater01.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in (lines[0], lines[2])] == [answer(fresh), later]


def test_links_stay_when_a_study_is_served_again(tmp_path, capsys):
    folder = toy_study(tmp_path / "study").folder
    first = serve(folder, 2)
    assert first.links["rater01"] in capsys.readouterr().out
    assert serve(folder, ["rater01", "ann"]).links["rater01"] == first.links["rater01"], "also while it is served"
    assert "closed" in repr(first)
    third = serve(folder, ["ann", "rater01"])
    assert third.links["rater01"] == first.links["rater01"] and "rater02" not in third.links
    assert [each.name for each in third._raters] == ["ann", "rater01"]
    port = third.port
    third.close()
    third.close()
    with pytest.raises(OSError):
        ask(third, "GET", path_of(third))
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(RafError, match=f"port {port} of 127.0.0.1 cannot be used"):
            serve(folder, port=port)
        with serve(folder, 1) as fourth:
            assert fourth.port != port and path_of(fourth) == path_of(first)
    (folder / "links.json").write_text("{")
    with pytest.raises(RafError, match=r"links\.json: damaged file of links .* delete it"):
        serve(folder)


def test_an_answer_after_the_end_is_refused(fresh):
    fresh.close()
    rater = fresh.rater(path_of(fresh).strip("/"))
    with pytest.raises(loopback.Refused, match="has ended"):
        fresh.store(rater, json.dumps(answer(fresh)).encode())
    assert stored(fresh) == []


@pytest.mark.parametrize(
    ("raters", "words"),
    [
        (0, "raters is 0, expected a whole number from 1 to 3"),
        (4, "raters is 4"),
        ("ann", "raters is 'ann'"),
        ([], "0 names, expected 1 to 3"),
        (["ann", "Ann"], "2 names, expected 1 to 3 different ones"),
        (["a", "b", "c", "d"], "4 names"),
        (["observer:truth"], "observer:truth is a program"),
        (["../key"], "rater is '../key', expected 1 to 64 letters"),
    ],
)
def test_raters_that_cannot_be_served(served, raters, words):
    with pytest.raises(RafError, match=re.escape(words)):
        serve(served.study.folder, raters)
    assert ask(served, "GET", path_of(served))[0] == 200, "the running server stays"


def test_a_folder_without_a_study(tmp_path):
    with pytest.raises(RafError, match=r"study\.json: no such study"):
        serve(tmp_path)
    assert list(tmp_path.iterdir()) == []
