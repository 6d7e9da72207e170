// Shows frames of a puppet; dragging, the wheel and the arrow keys move the camera. No network is used.
const DEGREES_A_PIXEL = 0.4;
const REST = 400; // milliseconds without a frame until the puppet counts as resting
const EMPTY = { azimuth: 0, elevation: 0, zoom: 1 };

function element(parent, kind, name) {
  const made = document.createElement(kind);
  made.className = name;
  parent.append(made);
  return made;
}

function render({ model, el }) {
  const root = element(el, "div", "raf-puppet");
  const stage = element(root, "div", "raf-stage");
  const image = element(stage, "img", "raf-frame");
  const rate = element(stage, "span", "raf-rate");
  const labels = element(root, "div", "raf-labels");
  const meter = element(root, "div", "raf-meter");
  const bar = element(meter, "div", "raf-bar");
  const mark = element(bar, "div", "raf-mark");
  const words = element(meter, "div", "raf-words");
  image.alt = "the avatar";
  image.draggable = false;
  image.tabIndex = 0;
  image.title = "drag: turn the camera, wheel: zoom, double-click: back to the front";
  image.width = model.get("width");
  image.height = model.get("height");
  root.style.width = `${image.width}px`;
  for (const text of model.get("labels")) element(labels, "span", "raf-label").textContent = text;

  const limits = model.get("limits");
  const camera = { ...EMPTY };
  let asked = false, resting = 0, address = "", shown = [];

  const clamp = (value, [low, high]) => Math.min(high, Math.max(low, value));
  function orbit() {
    camera.elevation = clamp(camera.elevation, limits.elevation);
    camera.zoom = clamp(camera.zoom, limits.zoom);
    if (asked) return; // at most one message for each image of the screen
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      model.send({ kind: "orbit", ...camera });
    });
  }

  function read({ distance, typical, edge, word }) {
    if (word === undefined) return;
    const end = 2 * edge;
    const at = (value) => `${(100 * Math.min(1, value / end)).toFixed(1)}%`;
    bar.style.setProperty("--typical", at(typical));
    bar.style.setProperty("--edge", at(edge));
    mark.style.left = at(distance);
    meter.dataset.word = word;
    words.textContent = `${word}: ${distance.toFixed(2)} from the training set (edge ${edge.toFixed(2)})`;
  }

  async function show(bytes, number) {
    const next = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
    const old = address;
    address = next;
    image.src = next;
    try {
      await image.decode();
    } catch {
      // A newer frame has replaced this one.
    }
    if (old) URL.revokeObjectURL(old);
    if (!number) return;
    model.send({ kind: "shown", number });
    const now = performance.now();
    shown = [...shown.filter((time) => now - time < 1000), now];
    const seconds = (now - shown[0]) / 1000;
    image.dataset.number = number;
    if (shown.length > 2) rate.textContent = `${((shown.length - 1) / seconds).toFixed(0)} frames/s`;
    clearTimeout(resting);
    resting = setTimeout(() => {
      rate.textContent = "";
      model.send({ kind: "rest" });
    }, REST);
  }

  const receive = (content, buffers) => {
    if (content.kind === "frame") {
      read(content.meter);
      show(buffers[0], content.number);
    } else if (content.kind === "camera") {
      Object.assign(camera, { azimuth: content.azimuth, elevation: content.elevation, zoom: content.zoom });
    }
  };
  model.on("msg:custom", receive);

  const listener = new AbortController();
  const on = (name, act) => image.addEventListener(name, act, { passive: false, signal: listener.signal });
  on("pointerdown", (event) => {
    image.setPointerCapture(event.pointerId);
    event.preventDefault();
    image.focus({ preventScroll: true });
  });
  on("pointermove", (event) => {
    if (!image.hasPointerCapture(event.pointerId)) return;
    camera.azimuth -= DEGREES_A_PIXEL * event.movementX;
    camera.elevation += DEGREES_A_PIXEL * event.movementY;
    orbit();
  });
  on("wheel", (event) => {
    event.preventDefault();
    camera.zoom *= Math.exp(-0.001 * event.deltaY);
    orbit();
  });
  on("dblclick", () => {
    Object.assign(camera, EMPTY);
    orbit();
  });
  on("keydown", (event) => {
    const step = { ArrowLeft: [5, 0], ArrowRight: [-5, 0], ArrowUp: [0, -5], ArrowDown: [0, 5] }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    camera.azimuth += step[0];
    camera.elevation += step[1];
    orbit();
  });

  read(model.get("meter"));
  if (model.get("frame").byteLength) show(model.get("frame"), 0);
  model.send({ kind: "ready" });
  return () => {
    listener.abort();
    clearTimeout(resting);
    model.off("msg:custom", receive);
    URL.revokeObjectURL(address);
  };
}

export default { render };
