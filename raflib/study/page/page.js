/* The page of a study. window.STUDY holds its texts and questions, and `mode`:
   "server" posts each answer, "disk" offers them for download, "turk" fills the fields of a Mechanical Turk form.
   Every choice is first kept in this browser, so a reload, a crash or a lost connection loses nothing.
   Dollar signs before braces must not appear in this file: Mechanical Turk would read them as variables. */
"use strict";
(function () {
  const AXES = ["pose", "expression"], CHOICES = ["left", "right", "tie"], AHEAD = 10, RETRY = 2000;
  const study = window.STUDY, page = document.querySelector(".study");
  const element = (id) => document.getElementById(id);
  const turk = study.mode === "turk", server = study.mode === "server";

  let rater = study.rater || "", questions = study.questions, prefix = "";
  let shown = -1, active = "pose", again = false, ready = false, since = 0, before = 0;
  let storing = true, sending = false, refused = "", waiting = false, timer = 0;
  const kept = new Map();  // "question/axis" -> {choice, ms, time, sent}
  const ahead = [];  // images of the next questions, held so that they survive a lost connection

  /* ---- what has been chosen ---- */

  const key = (question, axis) => question.id + "/" + axis;
  const get = (question, axis) => kept.get(key(question, axis));
  const open = (question) => AXES.find((axis) => !get(question, axis));
  const firstOpen = () => questions.findIndex(open);
  const unsent = () => [...kept].filter(([, record]) => !record.sent).sort(([, a], [, b]) => (a.time < b.time ? -1 : 1));

  function stored(name) {
    try {
      return JSON.parse(localStorage.getItem(prefix + name));
    } catch {
      return null;
    }
  }

  function keep(name, record) {
    kept.set(name, record);
    try {
      if (!turk) localStorage.setItem(prefix + name, JSON.stringify(record));
    } catch {
      storing = false;
    }
  }

  function merge(name, record) {  // the newer choice counts, from wherever it comes
    const [id, axis] = name.split("/");
    if (!record || !CHOICES.includes(record.choice) || !questions.some((q) => q.id === id && AXES.includes(axis))) return;
    const mine = kept.get(name);
    if (!mine || mine.time < record.time || (mine.time === record.time && record.sent)) keep(name, record);
  }

  function now() {  // never earlier than a former choice, so that the order of choices is the order of their times
    const last = Math.max(0, ...[...kept.values()].map((record) => Date.parse(record.time)));
    return new Date(Math.max(Date.now(), last + 1)).toISOString();
  }

  function choose(axis, choice) {
    if (!ready || shown < 0) return;
    const question = questions[shown];
    const ms = Math.min(999999999, Math.round(before + (document.hidden ? 0 : performance.now() - since)));
    keep(key(question, axis), {choice: choice, ms: ms, time: now(), sent: false});
    if (turk) element("answer-" + axis).value = choice;
    if (open(question) || turk) {
      again = false;
      refresh();
    } else {
      advance();
    }
    send();
  }

  function undo() {  // show the newest choice again, or the one before the choice that is shown again now
    const limit = again ? get(questions[shown], active).time : "~";
    const former = [...kept].filter(([, r]) => r.time < limit).sort(([, a], [, b]) => (a.time < b.time ? 1 : -1))[0];
    if (!former || turk) return;
    const [id, axis] = former[0].split("/");
    show(questions.findIndex((question) => question.id === id), axis);
  }

  /* ---- what is shown ---- */

  function advance() {
    const next = firstOpen();
    if (next >= 0) show(next, null);
    else finish();
  }

  function show(index, axis) {
    const question = questions[index], fresh = index !== shown;
    const inside = element("ask").contains(document.activeElement);
    shown = index;
    again = axis !== null;
    active = axis || open(question);
    element("ask").hidden = false;
    element("done").hidden = true;
    if (fresh) load(question);
    refresh();
    if (inside || again) element(active).focus({preventScroll: true});
  }

  function loaded(image) {  // unlike decode(), this also ends in a tab in the background
    if (image.complete && image.naturalWidth) return null;
    return new Promise((resolve, reject) => Object.assign(image, {onload: resolve, onerror: reject}));
  }

  async function load(question) {
    ready = false;
    const images = {
      "left-reference": question.reference, "left-candidate": question.left,
      "right-reference": question.reference, "right-candidate": question.right,
    };
    for (const [id, source] of Object.entries(images)) element(id).src = source;
    refresh();
    try {
      await Promise.all(Object.keys(images).map((id) => loaded(element(id))));
    } catch {
      if (question === questions[shown]) {
        notice("An image cannot be loaded. The page tries again by itself.", true);
        setTimeout(() => question === questions[shown] && !ready && load(question), RETRY);
      }
      return;
    }
    if (question !== questions[shown]) return;
    ready = true;
    since = performance.now();
    before = Math.max(0, ...AXES.map((axis) => (get(question, axis) || {ms: 0}).ms));
    refresh();
    ahead.length = 0;
    for (const next of questions.slice(shown + 1, shown + 1 + AHEAD)) {
      for (const source of [next.reference, next.left, next.right]) ahead.push(Object.assign(new Image(), {src: source}));
    }
  }

  function refresh() {
    const total = questions.length, question = questions[shown], finished = !element("done").hidden;
    const complete = questions.filter((each) => !open(each)).length;
    page.dataset.state = finished ? "done" : ready ? "ready" : "loading";
    element("bar").value = complete;
    element("bar").max = total;
    const place = finished ? "All " + total + " answered" : "Question " + (shown + 1) + " of " + total;
    if (element("place").textContent !== place) element("place").textContent = place;
    element("undo").disabled = kept.size === 0;
    element("keep").hidden = !again;
    if (!turk && complete > 0 && !finished && !again) element("help").open = false;
    if (question && !again) active = open(question) || active;
    for (const axis of AXES) {
      element(axis).classList.toggle("active", axis === active);
      for (const button of element(axis).querySelectorAll("button")) {
        const chosen = question && get(question, axis);
        button.disabled = !ready;
        button.setAttribute("aria-pressed", String(Boolean(chosen) && chosen.choice === button.dataset.choice));
      }
    }
    tell();
  }

  function finish() {
    shown = -1;
    ready = again = false;
    element("ask").hidden = true;
    element("done").hidden = false;
    element("done").focus({preventScroll: true});
    refresh();
  }

  function notice(text, warn) {
    if (element("notice").textContent !== text) element("notice").textContent = text;
    element("notice").classList.toggle("warn", warn);
  }

  function tell() {  // whether the answers are safe
    const left = server ? unsent().length : 0, finished = !element("done").hidden;
    const answers = left === 1 ? "1 answer is" : left + " answers are";
    element("download").hidden = turk || !(refused || !storing || (!server && kept.size > 0));
    if (refused) notice("The server refuses these answers (" + refused + "). Please download them.", true);
    else if (!storing && !turk) notice("This browser stores nothing. Do not close the page before the end.", true);
    else if (left && waiting) notice("No connection. " + answers + " kept here and sent when it is back.", true);
    else notice(turk && !open(questions[0]) ? "Both questions are answered. Please submit." : "", false);
    element("stored").textContent = server && kept.size && !left ? "All answers are stored." : "";
    if (!finished) return;
    element("thanks").textContent = !server
      ? "Please download your answers and send the file back."
      : left ? "Please keep this page open until all answers are sent." : "You can close this page.";
  }

  /* ---- where answers go ---- */

  function answer(name, record) {
    const [question, axis] = name.split("/");
    return {study: study.id, rater: rater, question: question, axis: axis, choice: record.choice, ms: record.ms,
            time: record.time};
  }

  async function send() {
    if (!server || sending) return;
    sending = true;
    try {
      for (let next = unsent()[0]; next; next = unsent()[0]) {
        const [name, record] = next;
        const reply = await fetch("answers", {
          method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(answer(name, record)),
          signal: AbortSignal.timeout(10000),
        });
        refused = reply.status >= 400 && reply.status < 500 ? await reply.text() : "";
        if (!reply.ok) throw Error(String(reply.status));
        waiting = false;
        if (kept.get(name).time === record.time) keep(name, Object.assign({}, record, {sent: true}));
      }
    } catch {
      waiting = true;
      clearTimeout(timer);
      timer = setTimeout(send, RETRY);
    } finally {
      sending = false;
      tell();
    }
  }

  async function receive() {  // what the server has; choices that it lost are sent again
    try {
      const reply = await fetch("answers", {signal: AbortSignal.timeout(5000)});
      if (!reply.ok) return;
      const theirs = new Map((await reply.json()).map((each) => [key({id: each.question}, each.axis), each]));
      for (const [name, record] of kept) {
        if (record.sent && !theirs.has(name)) keep(name, Object.assign({}, record, {sent: false}));
      }
      for (const [name, each] of theirs) merge(name, {choice: each.choice, ms: each.ms, time: each.time, sent: true});
    } catch {
      waiting = true;
    }
  }

  function download() {
    const lines = [...kept].map(([name, record]) => JSON.stringify(answer(name, record)) + "\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(lines, {type: "application/jsonl"}));
    link.download = "answers_" + study.id + "_" + rater + ".jsonl";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  /* ---- start ---- */

  function pickList() {  // a page on a disk serves every rater: the number after # tells which list of questions is meant
    const number = Number(location.hash.slice(1)) || (study.lists.length === 1 ? 1 : 0), ids = study.lists[number - 1];
    window.addEventListener("hashchange", () => location.reload());
    if (!ids) {
      element("ask").hidden = element("help").hidden = true;
      element("choose").hidden = false;
      element("place").textContent = "Welcome";
      study.lists.forEach((_, index) => {
        const link = Object.assign(document.createElement("a"), {href: "#" + (index + 1), textContent: index + 1});
        page.querySelector(".numbers").append(link, " ");
      });
      return false;
    }
    const known = new Map(study.questions.map((question) => [question.id, question]));
    questions = ids.map((id) => known.get(id));
    prefix = "raf-study/" + study.id + "/list" + number;
    rater = stored("");
    if (!rater) {  // random letters keep two people apart who chose the same number
      const random = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => (byte % 36).toString(36)).join("");
      rater = "disk" + number + "-" + random;
      try {
        localStorage.setItem(prefix, JSON.stringify(rater));
      } catch {
        storing = false;
      }
    }
    return true;
  }

  function texts() {
    document.title = element("title").textContent = study.title;
    element("instructions").textContent = study.instructions;
    for (const axis of AXES) {
      element(axis + "-question").textContent = study.axes[axis].question;
      element(axis + "-note").textContent = study.axes[axis].note;
      CHOICES.forEach((choice, index) => {
        const button = document.createElement("button");
        const number = Object.assign(document.createElement("kbd"), {textContent: index + 1});
        Object.assign(button, {type: "button", disabled: true});
        Object.assign(button.dataset, {axis: axis, choice: choice});
        button.append(number, " " + study.choices[choice]);
        // The second click of a double click would answer the next question.
        button.addEventListener("click", (event) => event.detail < 2 && choose(axis, choice));
        element(axis).querySelector(".choices").append(button);
      });
    }
  }

  function keys(event) {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || !element("choose").hidden) return;
    const choice = CHOICES["123".indexOf(event.key)];
    if (choice) choose(active, choice);
    else if (event.key === "u" || event.key === "U" || event.key === "Backspace") undo();
    else return;
    event.preventDefault();
  }

  function form() {  // Mechanical Turk wraps the page into its own form and adds the button that submits it
    element("undo").hidden = element("bar").hidden = element("place").hidden = true;
    for (const axis of AXES) {
      const field = Object.assign(document.createElement("input"), {type: "hidden", name: axis, id: "answer-" + axis});
      element(axis).append(field);
    }
    document.addEventListener("submit", (event) => {
      const missing = open(questions[0]);
      if (!missing) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      notice("Please answer both questions first.", true);
      element(missing).focus();
    }, true);
  }

  async function start() {
    page.dataset.mode = study.mode;
    texts();
    if (study.mode === "disk" && !pickList()) return;
    if (server) prefix = "raf-study/" + study.id + "/" + rater;
    prefix += "/";
    if (turk) form();
    else for (const question of questions) for (const axis of AXES) merge(key(question, axis), stored(key(question, axis)));
    if (server) await receive();
    document.addEventListener("keydown", keys);
    element("undo").addEventListener("click", undo);
    element("keep").addEventListener("click", advance);
    element("download").addEventListener("click", download);
    window.addEventListener("online", send);
    document.addEventListener("visibilitychange", () => {  // only time in which the faces can be seen is counted
      if (document.hidden) before += performance.now() - since;
      since = performance.now();
    });
    window.addEventListener("storage", (event) => {  // another tab of the same rater
      if (!event.key || !event.key.startsWith(prefix)) return;
      const name = event.key.slice(prefix.length);
      merge(name, stored(name));
      if (shown >= 0 && !again && !open(questions[shown])) advance();
      else refresh();
    });
    window.addEventListener("beforeunload", (event) => {
      if (!storing && !turk && kept.size) event.preventDefault();
    });
    advance();
    send();
  }

  start();
})();
