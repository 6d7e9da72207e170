"""Serves a study's page on this machine: one secret link per rater, and answers stored as they come.

    with serve("runs/study") as server:
        print(server.links["rater01"])

Raters on other machines reach it through a tunnel, for example `ssh -L 8000:127.0.0.1:PORT`. The server listens on the
loopback address only. It reads files of the template and the images of a rater's own questions, and nothing else.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import TracebackType

from raflib.errors import RafError, whole
from raflib.reading import parsed_json, read_bytes, read_json
from raflib.runs import atomic_write, json_text
from raflib.study.format import LARGEST, OBSERVER, Answer, Study, answers_file, append_answers, check_rater
from raflib.study.loopback import LOOPBACK, TOKEN, Listener, Rater, Refused
from raflib.study.pages import LARGEST_IMAGE, page_data, template

LINKS = "links.json"
"""File in the study's folder with port and secret links, so that links stay valid when the server starts again."""


def serve(folder: str | Path, raters: int | Sequence[str] | None = None, port: int = 0) -> Server:
    """Start serving the study in `folder` in a thread of its own, print the links, and return the server.

    Links stay the same when a study is served again. Serving it twice in one process ends the former server.

    Args:
        folder: the study's folder; answers go into its folder `answers`.
        raters: names, or how many (default: one for each list of the study); the first gets the first list.
        port: of 127.0.0.1; 0 is the port of the last time where it is free, or any free one.

    Raises RafError for a damaged study, unusable or repeated names, more raters than lists, or a port in use.
    """
    study = Study.load(folder)
    names = _names(study, raters)
    server = Server(study, names, whole("port", port, 0, 65535))
    for name, link in server.links.items():
        print(f"{name}: {link}")
    return server


class Server:
    """A running server. `links` are the raters' addresses by name; `close()` or the end of a `with` block stops it."""

    def __init__(self, study: Study, names: Sequence[str], port: int):
        self.study = study
        self._lock, self._closed = threading.Lock(), False
        former = _RUNNING.get(study.folder.resolve())
        if former is not None:
            former.close()
        tokens, old_port = _read_links(study)
        known = {question.id: question for question in study.questions}
        self._raters = [
            Rater(name, tokens.get(name) or secrets.token_urlsafe(32), tuple(known[each] for each in asked))
            for name, asked in zip(names, study.lists, strict=False)
        ]
        self._listener = _listen(self, port, old_port)
        self.port = self._listener.server_address[1]
        self.links = {rater.name: f"http://{LOOPBACK}:{self.port}/{rater.token}/" for rater in self._raters}
        try:
            _write_links(study, tokens | {rater.name: rater.token for rater in self._raters}, self.port)
        except RafError:
            self._listener.server_close()
            raise
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True, name="study")
        self._thread.start()
        _RUNNING[study.folder.resolve()] = self

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{LOOPBACK}:{self.port}"
        return f"Server({str(self.study.folder)!r}, {len(self._raters)} raters, {state})"

    def close(self) -> None:
        """Stop serving. An answer that is being stored is stored completely; any later one is refused."""
        with self._lock:
            already, self._closed = self._closed, True
        if not already:
            self._listener.shutdown()
            self._listener.server_close()
            self._thread.join()
            _RUNNING.pop(self.study.folder.resolve(), None)

    def rater(self, token: str) -> Rater | None:
        """The rater of a link."""
        return next((rater for rater in self._raters if secrets.compare_digest(rater.token, token)), None)

    def file(self, rater: Rater, name: str) -> tuple[bytes, str]:
        """Content and type of what a rater's page asks for."""
        if name in ("", "page.css", "page.js"):
            name = name or "page.html"
            return template(name).encode(), name.rpartition(".")[2]
        if name == "data.js":
            questions = [asdict(question) for question in rater.questions]
            return page_data("server", self.study, questions, rater=rater.name).encode(), "js"
        if name == "answers":
            with self._lock:
                answers = self._answers(rater)
            return json.dumps([asdict(answer) for answer in answers.values()]).encode(), "json"
        if name in rater.images:
            content = read_bytes(self.study.folder / name, "image", "build the study again", LARGEST_IMAGE)
            return content, name.rpartition(".")[2]
        raise Refused(404, "There is no such page.")

    def store(self, rater: Rater, body: bytes) -> None:
        """Append one answer to the rater's file, unless the file has this one or a newer one to the same question."""
        try:
            answer = Answer.of(parsed_json(body), self.study)
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"This is no answer: {error}") from None
        if answer.rater != rater.name or answer.question not in rater.ids:
            raise Refused(400, "This answer is of another rater or to a question of another list.")
        with self._lock:
            if self._closed:
                raise Refused(503, "The server has ended.")
            former = self._answers(rater).get((answer.question, answer.axis))
            if former is None or datetime.fromisoformat(former.time) < datetime.fromisoformat(answer.time):
                append_answers(self.study.folder, [answer])

    def _answers(self, rater: Rater) -> dict[tuple[str, str], Answer]:
        """The rater's answers on the disk, by question and axis; lines that are no answers are left to the importer."""
        path = answers_file(self.study.folder, rater.name)
        if not path.exists():
            return {}
        found = {}
        for line in read_bytes(path, "file of answers", "move it away", LARGEST).splitlines():
            try:
                answer = Answer.of(parsed_json(line), self.study)
            except (ValueError, RecursionError):
                continue
            found[answer.question, answer.axis] = answer
        return found


_RUNNING: dict[Path, Server] = {}


def _names(study: Study, raters: int | Sequence[str] | None) -> list[str]:
    """Names of the raters, checked."""
    if raters is None or not isinstance(raters, (list, tuple)):
        count = len(study.lists) if raters is None else whole("raters", raters, 1, len(study.lists))
        return [f"rater{number:02d}" for number in range(1, count + 1)]
    names = [check_rater(name) for name in raters]
    if programs := [name for name in names if name.startswith(OBSERVER)]:
        raise RafError(f"raters: {programs[0]} is a program, which needs no page; name people")
    if len({name.lower() for name in names}) < len(names) or not 1 <= len(names) <= len(study.lists):
        raise RafError(
            f"raters: {len(names)} names, expected 1 to {len(study.lists)} different ones, one for each list"
        )
    return names


def _listen(owner: Server, port: int, old_port: int) -> Listener:
    """A listener on `port`; where it is 0, on the old port or else on any free one."""
    for wanted in (port,) if port else (old_port, 0):
        try:
            return Listener(owner, wanted)
        except OSError as error:
            reason = error.strerror
    raise RafError(f"port {port} of {LOOPBACK} cannot be used ({reason}); choose another one, or 0 for any")


def _read_links(study: Study) -> tuple[dict[str, str], int]:
    """Secret parts of links by rater, and the port, of the last time; none where it was another study."""
    path = study.folder / LINKS
    if not path.exists():
        return {}, 0
    told = read_json(path, {"study": str, "port": int, "tokens": dict}, "file of links", "delete it to make new links")
    if told["study"] != study.id:
        return {}, 0
    tokens = {name: token for name, token in told["tokens"].items() if TOKEN.fullmatch(str(token))}
    return tokens, told["port"] if 0 <= told["port"] <= 65535 else 0


def _write_links(study: Study, tokens: dict[str, str], port: int) -> None:
    """Store links where only this user can read them."""
    with atomic_write(study.folder / LINKS) as temporary:
        temporary.chmod(0o600)
        text = json_text({"study": study.id, "port": port, "tokens": tokens})
        temporary.write_text(text, encoding="utf-8", newline="\n")
