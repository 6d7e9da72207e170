"use strict";
/* The page's controls: time, view, keys, mouse and touch. */

(() => {
  const by = (id) => document.getElementById(id);
  const header = JSON.parse(by("header").textContent);
  const { times, camera, pivot } = header, last = header.frames - 1, length = times[header.frames];
  const canvas = by("view"), slider = by("frame"), state = { yaw: 0, pitch: 0, zoom: 1, frame: 0, playing: false };
  const LARGEST = 1024, STEEPEST = 1.4, ZOOMS = [0.5, 6];
  let renderer = null, started = 0, waiting = false;

  const motion = new Motion(header, bytes(by("data").textContent));
  by("data").remove();
  document.documentElement.style.setProperty("--shape", camera.width / camera.height);

  function bytes(text) {
    const found = atob(text), array = new Uint8Array(found.length);
    for (let i = 0; i < array.length; i++) array[i] = found.charCodeAt(i);
    return array.buffer;
  }

  /** The first view's camera, turned around the pivot and zoomed, for an image `width` pixels wide. */
  function seen(width) {
    const [a, b] = [state.yaw, state.pitch], [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
    const orbit = [[ca, 0, sa], [sb * sa, cb, -sb * ca], [-cb * sa, sb, cb * ca]];
    const middle = camera.turn.map((row, i) => row[0] * pivot[0] + row[1] * pivot[1] + row[2] * pivot[2] + camera.shift[i]);
    const dot = (row, values) => row[0] * values[0] + row[1] * values[1] + row[2] * values[2];
    const column = (j) => camera.turn.map((row) => row[j]), from = camera.shift.map((value, i) => value - middle[i]);
    const turn = orbit.flatMap((row) => [0, 1, 2].map((j) => dot(row, column(j))));
    const shift = orbit.map((row, i) => dot(row, from) + middle[i]);
    const height = Math.max(1, Math.round((width * camera.height) / camera.width));
    const scale = width / camera.width, [fx, fy, cx, cy] = camera.lens;
    // Zoom keeps the pivot's place. The blur grows with the image, so that it looks the same at every size.
    const [x, y] = [cx + (fx * middle[0]) / middle[2], cy + (fy * middle[1]) / middle[2]], zoom = state.zoom;
    const lens = [fx * zoom, fy * zoom, x + (cx - x) * zoom, y + (cy - y) * zoom].map((value) => value * scale);
    return { turn, shift, lens, width, height, blur: camera.blur * (scale * zoom) ** 2 };
  }

  function render(width) {
    renderer.draw(state.frame, seen(width));
  }

  function request() {
    if (!waiting && renderer) {
      waiting = true;
      requestAnimationFrame(step);
    }
  }

  function step(now) {
    waiting = false;
    if (!renderer) return;
    if (state.playing) {
      const time = ((now - started) / 1000) % length;
      let frame = state.frame <= last && times[state.frame] <= time ? state.frame : 0;
      while (frame < last && times[frame + 1] <= time) frame++;
      state.frame = frame;
    }
    const wide = canvas.clientWidth * (window.devicePixelRatio || 1);
    render(Math.max(16, Math.min(LARGEST, Math.round(wide))));
    slider.value = state.frame;
    by("time").textContent = `${times[state.frame].toFixed(1)} of ${length.toFixed(1)} s`;
    if (state.playing) request();
  }

  function play(on) {
    state.playing = on && last > 0;
    started = performance.now() - 1000 * times[state.frame];
    by("play").classList.toggle("playing", state.playing);
    by("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
    request();
  }

  function seek(frame) {
    state.frame = Math.max(0, Math.min(last, frame));
    play(false);
  }

  function look(yaw, pitch, zoom) {
    state.yaw = yaw;
    state.pitch = Math.max(-STEEPEST, Math.min(STEEPEST, pitch));
    state.zoom = Math.max(ZOOMS[0], Math.min(ZOOMS[1], zoom));
    request();
  }

  const touching = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    touching.set(event.pointerId, [event.clientX, event.clientY]);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = touching.get(event.pointerId), now = [event.clientX, event.clientY];
    if (!before) return;
    const others = [...touching].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    touching.set(event.pointerId, now);
    if (others.length) {
      const apart = (place) => Math.max(1, Math.hypot(place[0] - others[0][0], place[1] - others[0][1]));
      look(state.yaw, state.pitch, (state.zoom * apart(now)) / apart(before));
    } else {
      const much = 4 / canvas.clientWidth;
      look(state.yaw - much * (now[0] - before[0]), state.pitch + much * (now[1] - before[1]), state.zoom);
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => touching.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    look(state.yaw, state.pitch, state.zoom * Math.exp(-0.001 * Math.max(-200, Math.min(200, event.deltaY))));
  }, { passive: false });
  canvas.addEventListener("dblclick", () => look(0, 0, 1));
  by("front").addEventListener("click", () => look(0, 0, 1));
  by("play").addEventListener("click", () => play(!state.playing));
  slider.max = last;
  slider.addEventListener("input", () => seek(Number(slider.value)));
  document.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && event.target.tagName !== "BUTTON") play(!state.playing);
    else if (steps && event.target !== slider) seek(state.frame + steps);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(request).observe(canvas);

  function start(playing) {
    try {
      renderer = new Renderer(canvas, motion);
    } catch (error) {
      by("problem").textContent = error.message;
      by("problem").hidden = false;
      by("player").dataset.state = "failed";
      return;
    }
    by("player").dataset.state = "ready";
    play(playing);
  }
  canvas.addEventListener("webglcontextlost", (event) => {
    event.preventDefault();
    renderer = null;
  });
  canvas.addEventListener("webglcontextrestored", () => start(state.playing));
  start(!matchMedia("(prefers-reduced-motion: reduce)").matches);

  /** For programs: what a frame looks like at a size and view, as base64 of RGBA rows from the bottom to the top. */
  window.avatar = {
    state, seek, look, play,
    pixels(width) {
      render(width);
      const { gl } = renderer, { drawingBufferWidth: w, drawingBufferHeight: h } = gl, found = new Uint8Array(4 * w * h);
      gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, found);
      let text = "";
      for (const value of found) text += String.fromCharCode(value);
      request();
      return btoa(text);
    },
  };
})();
