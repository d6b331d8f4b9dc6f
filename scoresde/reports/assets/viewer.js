"use strict";
(async () => {
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const $ = (id) => document.getElementById(id);
  const viewer = $("viewer"), stage = $("stage"), context = stage.getContext("2d");
  const keys = data.views.map((view) => view.key);
  const views = new Map(data.views.map((view) => [view.key, {
    ...view,
    image: $(`img-${view.key}`),
    frame: view.frame || [0, 0, data.width, data.height],
    levels: view.palette && new Map(view.palette.map((colour, level) => [parseInt(colour, 16), level])),
  }]));
  await Promise.all([...views.values()].map((view) => view.image.decode()));

  const state = {
    left: data.left, right: data.right, wipe: 0.5, swapped: false,
    zoom: 1, x: data.width / 2, y: data.height / 2, fitted: true, cursor: null, byKeys: false,
  };
  let width = 1, height = 1;

  // Values ---------------------------------------------------------------------------------------

  const probe = document.createElement("canvas");
  probe.width = probe.height = 1;
  const probing = probe.getContext("2d", { willReadFrequently: true });
  probing.imageSmoothingEnabled = false;

  /** Values of a view at a pixel of the restoration: grey levels; null outside or where none is. */
  function valuesAt(view, x, y) {
    const [left, top, wide, high] = view.frame;
    const column = Math.floor((x + 0.5 - left) / wide * view.width);
    const row = Math.floor((y + 0.5 - top) / high * view.height);
    if (column < 0 || row < 0 || column >= view.width || row >= view.height) return null;
    probing.clearRect(0, 0, 1, 1);
    probing.drawImage(view.image, column, row, 1, 1, 0, 0, 1, 1);
    const [red, green, blue] = probing.getImageData(0, 0, 1, 1).data;
    if (!view.levels) return red === green && green === blue ? [red] : [red, green, blue];
    const level = view.levels.get((red << 16) | (green << 8) | blue);
    if (level === undefined || (view.gaps && level === 0)) return null;
    return [view.low + view.step * level];
  }

  function written(view, values) {
    if (!values) return "no value";
    const digits = view.palette ? (view.step < 0.1 ? 2 : 1) : 0;
    return values.map((value) => value.toFixed(digits).replace("-", "−")).join(" ");
  }

  function intervalAt(x, y) {
    if (!data.interval) return null;
    const [lower, upper] = data.interval.map((key) => valuesAt(views.get(key), x, y));
    if (!lower || !upper) return null;
    const channels = Math.max(lower.length, upper.length);
    const of = (ends, c) => ends[Math.min(c, ends.length - 1)];
    return Array.from({ length: channels }, (_, c) => `${of(lower, c)}–${of(upper, c)}`).join(" ");
  }

  function read() {
    if (!state.cursor) return;
    const { x, y } = state.cursor;
    const parts = [["Pixel", `column ${x}, row ${y}`]];
    for (const key of new Set([state.left, state.right])) {
      const view = views.get(key);
      parts.push([view.title, written(view, valuesAt(view, x, y))]);
    }
    const interval = intervalAt(x, y);
    if (interval) parts.push([`${Math.round(100 * data.level)} % interval`, interval]);
    $("readout").replaceChildren(...parts.map(([name, value]) => {
      const item = document.createElement("span");
      const bold = document.createElement("b");
      bold.textContent = value;
      item.append(`${name} `, bold);
      return item;
    }));
    if (state.byKeys) window.say(parts.map(([name, value]) => `${name}: ${value}`).join(". "));
  }

  // Drawing --------------------------------------------------------------------------------------

  let asked = false;
  function draw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; paint(); });
  }

  function paint() {
    const ratio = window.devicePixelRatio || 1;
    if (stage.width !== Math.round(width * ratio) || stage.height !== Math.round(height * ratio)) {
      stage.width = Math.round(width * ratio);
      stage.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const middle = state.wipe * width;
    const [left, right] = state.swapped ? [state.right, state.left] : [state.left, state.right];
    half(views.get(left), 0, middle, ratio);
    half(views.get(right), middle, width, ratio);
    if (state.cursor && state.byKeys) frameCursor();
    $("divider").style.left = `${100 * state.wipe}%`;
    $("divider").hidden = state.left === state.right;
    $("badge-left").textContent = views.get(left).title;
    $("badge-right").textContent = views.get(right).title;
    $("badge-left").hidden = state.wipe < 0.12;
    $("badge-right").hidden = state.wipe > 0.88;
    $("zoom-now").textContent = `${Math.round(100 * state.zoom)} %`;
    stage.style.touchAction = state.fitted ? "pan-y" : "none";
    Object.assign(viewer.dataset, {
      left, right, wipe: Math.round(100 * state.wipe), zoom: state.zoom.toFixed(3),
    });
  }

  function half(view, from, to, ratio) {
    if (to <= from) return;
    const [left, top, wide, high] = view.frame;
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, height);
    context.clip();
    context.imageSmoothingEnabled = wide / view.width * state.zoom * ratio < 1;
    context.drawImage(
      view.image,
      width / 2 + (left - state.x) * state.zoom, height / 2 + (top - state.y) * state.zoom,
      wide * state.zoom, high * state.zoom,
    );
    context.restore();
  }

  function frameCursor() {
    const side = Math.max(state.zoom, 3);
    const x = width / 2 + (state.cursor.x - state.x) * state.zoom;
    const y = height / 2 + (state.cursor.y - state.y) * state.zoom;
    for (const [colour, grown] of [["#000", 2], ["#fff", 1]]) {
      context.strokeStyle = colour;
      context.lineWidth = 1;
      context.strokeRect(x - grown + 0.5, y - grown + 0.5, side + 2 * grown - 1, side + 2 * grown - 1);
    }
  }

  // Place and size -------------------------------------------------------------------------------

  const fitting = () => Math.min(width / data.width, height / data.height);

  function keepInside() {
    const halfWide = Math.min(width / 2 / state.zoom, data.width / 2);
    const halfHigh = Math.min(height / 2 / state.zoom, data.height / 2);
    state.x = Math.min(Math.max(state.x, halfWide), data.width - halfWide);
    state.y = Math.min(Math.max(state.y, halfHigh), data.height - halfHigh);
  }

  function fit() {
    Object.assign(state, { zoom: fitting(), x: data.width / 2, y: data.height / 2, fitted: true });
    draw();
  }

  /** Zoom so that the point of the picture under (px, py) on the stage stays there. */
  function zoomTo(zoom, px = width / 2, py = height / 2) {
    const x = state.x + (px - width / 2) / state.zoom, y = state.y + (py - height / 2) / state.zoom;
    const least = Math.min(fitting(), 1);
    state.zoom = Math.min(Math.max(zoom, least), 64);
    state.x = x - (px - width / 2) / state.zoom;
    state.y = y - (py - height / 2) / state.zoom;
    state.fitted = state.zoom <= fitting() * 1.001;
    keepInside();
    draw();
  }

  function resize() {
    width = stage.clientWidth;
    const most = Math.min(Math.max(260, 0.7 * window.innerHeight), 680);
    height = Math.round(Math.min(most, Math.max(200, width * data.height / data.width)));
    stage.style.height = `${height}px`;
    if (state.fitted) fit();
    else { keepInside(); draw(); }
  }

  // Choices --------------------------------------------------------------------------------------

  function choose(side, key) {
    state[side] = key;
    $(side).value = key;
    for (const thumb of document.querySelectorAll(".thumb")) {
      thumb.setAttribute("aria-pressed", String(thumb.dataset.key === state.right));
      thumb.dataset.side = thumb.dataset.key === state.left ? "left" : "";
    }
    const view = views.get(state.right);
    $("meaning").textContent = `${view.title}: ${view.meaning}`;
    const mapped = [view, views.get(state.left)].find((one) => one.palette);
    $("legend").hidden = !mapped;
    if (mapped) {
      $("legend-name").textContent = mapped.title;
      const top = Number(mapped.top.toPrecision(3));
      $("legend-low").textContent = mapped.gaps ? `−${top}` : "0";
      $("legend-high").textContent = `${top} grey levels or more`;
      $("legend-bar").style.background = `linear-gradient(to right, ${mapped.gradient.join(", ")})`;
    }
    stage.setAttribute(
      "aria-label", `${views.get(state.left).title} on the left of the divider, ${view.title} on the right`,
    );
    read();
    draw();
  }

  function wipeTo(share) {
    state.wipe = Math.min(Math.max(share, 0), 1);
    $("wipe").value = String(Math.round(100 * state.wipe));
    draw();
  }

  function swap(on) {
    if (state.swapped === on) return;
    state.swapped = on;
    $("swap").setAttribute("aria-pressed", String(on));
    if (on) window.say(`Swapped: ${views.get(state.right).title} on the left`);
    draw();
  }

  for (const side of ["left", "right"]) {
    $(side).addEventListener("change", (event) => choose(side, event.target.value));
  }
  $("wipe").addEventListener("input", (event) => wipeTo(Number(event.target.value) / 100));
  for (const thumb of document.querySelectorAll(".thumb")) {
    thumb.addEventListener("click", (event) => {
      choose(event.shiftKey ? "left" : "right", thumb.dataset.key);
      window.say(views.get(thumb.dataset.key).meaning);
    });
  }
  $("zoom-in").addEventListener("click", () => zoomTo(state.zoom * 1.5));
  $("zoom-out").addEventListener("click", () => zoomTo(state.zoom / 1.5));
  $("fit").addEventListener("click", fit);
  $("whole").addEventListener("click", () => zoomTo(1 / (window.devicePixelRatio || 1)));

  $("swap").addEventListener("pointerdown", () => swap(true));
  for (const end of ["pointerup", "pointercancel", "pointerleave", "blur"]) {
    $("swap").addEventListener(end, () => swap(false));
  }
  $("swap").addEventListener("contextmenu", (event) => event.preventDefault());
  $("swap").addEventListener("keydown", (event) => {
    if (event.key === " " || event.key === "Enter") { event.preventDefault(); swap(true); }
  });
  $("swap").addEventListener("keyup", () => swap(false));

  // Keys: only while the viewer has the focus, so that they do not take those of others ----------

  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onStage = event.target === stage;
    if (!onStage && event.target.matches("select, input")) return;
    const digit = /^Digit([1-9])$/.exec(event.code);
    if (digit && Number(digit[1]) <= keys.length) {
      choose(event.shiftKey ? "left" : "right", keys[Number(digit[1]) - 1]);
      window.say(views.get(event.shiftKey ? state.left : state.right).title);
    } else if (event.key === "+" || event.key === "=") zoomTo(state.zoom * 1.5, ...atCursor());
    else if (event.key === "-" || event.key === "−") zoomTo(state.zoom / 1.5, ...atCursor());
    else if (event.key === "0") fit();
    else if (event.key === "s" || event.key === "S") swap(true);
    else if (onStage && moves[event.key]) moveCursor(...moves[event.key], event.shiftKey ? 10 : 1);
    else return;
    event.preventDefault();
  });
  viewer.addEventListener("keyup", (event) => {
    if (event.key === "s" || event.key === "S") swap(false);
  });
  viewer.addEventListener("focusout", (event) => {
    if (!viewer.contains(event.relatedTarget)) swap(false);  // a key that is let go elsewhere
  });

  function atCursor() {
    if (!state.cursor || !state.byKeys) return [];
    const { x, y } = state.cursor;
    return [width / 2 + (x + 0.5 - state.x) * state.zoom, height / 2 + (y + 0.5 - state.y) * state.zoom];
  }

  function moveCursor(dx, dy, by) {
    const from = state.cursor || { x: Math.floor(data.width / 2), y: Math.floor(data.height / 2) };
    const inside = (value, size) => Math.min(Math.max(value, 0), size - 1);
    state.cursor = { x: inside(from.x + by * dx, data.width), y: inside(from.y + by * dy, data.height) };
    state.byKeys = true;
    const [px, py] = atCursor();
    if (px < 0 || px > width) state.x = state.cursor.x;
    if (py < 0 || py > height) state.y = state.cursor.y;
    keepInside();
    read();
    draw();
  }

  // Pointers: drag the divider, drag the picture when it is larger than the stage, pinch ----------

  const pointers = new Map();
  let dragging = null;

  const place = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  stage.addEventListener("pointerdown", (event) => {
    const [px, py] = place(event);
    pointers.set(event.pointerId, [px, py]);
    stage.setPointerCapture(event.pointerId);
    const near = Math.abs(px - state.wipe * width) < 14;
    dragging = pointers.size > 1 ? "pinch" : near || state.fitted ? "wipe" : "pan";
    if (dragging === "wipe" && (near || event.pointerType !== "mouse")) wipeTo(px / width);
  });

  stage.addEventListener("pointermove", (event) => {
    const [px, py] = place(event);
    const before = pointers.get(event.pointerId);
    if (before && dragging === "pinch" && pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const apart = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
      zoomTo(
        state.zoom * apart([px, py]) / Math.max(apart(before), 1),
        (px + other[0]) / 2, (py + other[1]) / 2,
      );
    } else if (before && dragging === "wipe") wipeTo(px / width);
    else if (before && dragging === "pan") {
      state.x -= (px - before[0]) / state.zoom;
      state.y -= (py - before[1]) / state.zoom;
      keepInside();
      draw();
    }
    if (before) pointers.set(event.pointerId, [px, py]);
    point(px, py);
    stage.style.cursor = Math.abs(px - state.wipe * width) < 14 ? "ew-resize" : "crosshair";
  });

  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => {
      pointers.delete(event.pointerId);
      if (!pointers.size) dragging = null;
    });
  }

  function point(px, py) {
    const x = Math.floor(state.x + (px - width / 2) / state.zoom);
    const y = Math.floor(state.y + (py - height / 2) / state.zoom);
    if (x < 0 || y < 0 || x >= data.width || y >= data.height) return;
    if (state.cursor && !state.byKeys && state.cursor.x === x && state.cursor.y === y) return;
    if (state.byKeys) draw();
    state.cursor = { x, y };
    state.byKeys = false;
    read();
  }

  // The page must scroll over the picture as anywhere; a click says that the picture is meant.
  stage.addEventListener("wheel", (event) => {
    if (document.activeElement !== stage && !event.ctrlKey) return;
    event.preventDefault();
    zoomTo(state.zoom * Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), ...place(event));
  }, { passive: false });

  viewer.dataset.ready = "yes";
  choose("left", state.left);
  choose("right", state.right);
  new ResizeObserver(resize).observe(stage.parentElement);
  window.addEventListener("resize", resize);
  resize();
  paint();
})();
