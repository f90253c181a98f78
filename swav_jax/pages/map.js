// The map of a report: points or images in the plane, by pointer, fingers and keys.

/** Draws and listens; `kit` is what `report` has made for all sections. */
function drawMap(map, clusters, kit) {
  const { images, sheets, place, tile, nameOf, about, described, clusterOf, colour, choice, showImage } = kit;
  const canvas = document.getElementById("plane");
  const context = canvas.getContext("2d");
  const hover = document.getElementById("hover");
  const said = document.getElementById("map-said");
  const legend = document.getElementById("legend");
  let by = images.labels ? "label" : "cluster";
  let pictures = false;
  let only = null; // the class or cluster picked out in the legend
  let at = null; // the point under the pointer or chosen by keys
  let view = { x: 0.5, y: 0.5, zoom: 1 };
  let width = 0, height = 0;

  const groupOf = (k) => (by === "label" ? images.labels[map.images[k]] : clusterOf(map.images[k]));
  const groups = () => (by === "label" ? images.classes.length : clusters);
  const groupName = (group) => (by === "label" ? images.classes[group] ?? "no label" : `Cluster ${group}`);

  const scale = () => Math.min(width, height) * 0.94 * view.zoom;
  const toX = (k) => width / 2 + (map.x[k] - view.x) * scale();
  const toY = (k) => height / 2 + (map.y[k] - view.y) * scale();

  const loaded = [];
  function sheetImage(sheet) {
    if (!loaded[sheet]) {
      loaded[sheet] = new Image();
      loaded[sheet].addEventListener("load", draw);
      loaded[sheet].src = sheets[sheet];
    }
    return loaded[sheet];
  }

  let asked = false;
  function draw() {
    if (!asked) requestAnimationFrame(() => { asked = false; paint(); });
    asked = true;
  }

  function paint() {
    const ratio = window.devicePixelRatio || 1;
    width = canvas.clientWidth;
    height = canvas.clientHeight;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const many = groups();
    const colours = Array.from({ length: many }, (_, group) => colour(group, many));
    const colourOf = (k) => colours[groupOf(k)] ?? "#8888";
    const radius = Math.min(6, (map.x.length > 2000 ? 2.2 : 3.4) * Math.sqrt(view.zoom));
    const points = visible();
    const chosen = points.filter((k) => only === null || groupOf(k) === only);
    const dots = (numbers, opacity) => {
      context.globalAlpha = opacity;
      for (const k of numbers) {
        context.fillStyle = colourOf(k);
        context.beginPath();
        context.arc(toX(k), toY(k), radius, 0, 7);
        context.fill();
      }
    };
    if (only !== null) dots(points, 0.12);
    dots(chosen, pictures ? 0.35 : 0.9);
    context.globalAlpha = 1;
    const side = Math.min(64, 30 * Math.sqrt(view.zoom));
    for (const k of pictures ? apart(chosen, side + 4) : []) {
      const x = toX(k) - side / 2, y = toY(k) - side / 2;
      const [sheet, column, row] = place(map.images[k]);
      const image = sheetImage(sheet);
      context.fillStyle = colourOf(k);
      context.fillRect(x - 1.5, y - 1.5, side + 3, side + 3);
      const from = images.side; // pixels of a picture in its sheet
      if (image.complete) context.drawImage(image, column * from, row * from, from, from, x, y, side, side);
    }
    context.globalAlpha = 1;
    if (at !== null) {
      context.strokeStyle = getComputedStyle(canvas).color;
      context.lineWidth = 2;
      context.beginPath();
      context.arc(toX(at), toY(at), radius + 4, 0, 7);
      context.stroke();
    }
  }

  /** The points that the window shows. */
  function visible() {
    const inside = (at, end) => at > -40 && at < end + 40;
    return map.x.map((_, k) => k).filter((k) => inside(toX(k), width) && inside(toY(k), height));
  }

  /** Those of some points whose squares do not overlap; the best of a cluster come first. */
  function apart(numbers, side) {
    const taken = new Map(); // points by the square of a grid that they are in
    return numbers.filter((k) => {
      const x = toX(k), y = toY(k), column = Math.floor(x / side), row = Math.floor(y / side);
      for (let i = column - 1; i <= column + 1; i++) {
        for (let j = row - 1; j <= row + 1; j++) {
          const other = taken.get(`${i},${j}`);
          if (other && Math.abs(other[0] - x) < side && Math.abs(other[1] - y) < side) return false;
        }
      }
      taken.set(`${column},${row}`, [x, y]);
      return true;
    });
  }

  function fillLegend() {
    const counts = new Map();
    for (let k = 0; k < map.x.length; k++) counts.set(groupOf(k), (counts.get(groupOf(k)) || 0) + 1);
    const ordered = [...counts.keys()].sort((a, b) => (by === "label" ? a - b : counts.get(b) - counts.get(a)));
    legend.replaceChildren(...ordered.map((group) => make("li", {}, make(
      "button", {
        type: "button", "aria-pressed": String(only === group), title: groupName(group),
        onclick: () => { only = only === group ? null : group; fillLegend(); draw(); },
      },
      make("i", { style: `background:${colour(group, groups())}` }),
      make("span", {}, groupName(group)),
      make("b", {}, counts.get(group).toLocaleString("en")),
    ))));
  }

  /** Chooses a point: shows its image beside it. */
  function choose(k) {
    at = k;
    hover.hidden = k === null;
    if (k !== null) {
      const i = map.images[k];
      const text = [make("div", {}, nameOf(i)), make("div", { class: "muted" }, about(i))];
      hover.replaceChildren(tile(i, { tag: "div" }), ...text);
      const box = hover.getBoundingClientRect();
      const x = toX(k), y = toY(k);
      hover.style.left = `${Math.max(8, Math.min(x + 14, width - box.width - 8))}px`;
      hover.style.top = `${Math.max(8, y + 14 + box.height < height ? y + 14 : y - 14 - box.height)}px`;
      said.textContent = described(i);
    }
    draw();
  }

  function nearest(x, y, reach) {
    let best = null, least = reach * reach;
    for (let k = 0; k < map.x.length; k++) {
      if (only !== null && groupOf(k) !== only) continue;
      const distance = (toX(k) - x) ** 2 + (toY(k) - y) ** 2;
      if (distance < least) [best, least] = [k, distance];
    }
    return best;
  }

  function zoomBy(factor, x = width / 2, y = height / 2) {
    const before = scale();
    view.zoom = Math.max(1, Math.min(40, view.zoom * factor));
    const change = 1 / before - 1 / scale();
    view.x += (x - width / 2) * change;
    view.y += (y - height / 2) * change;
    if (view.zoom === 1) view = { x: 0.5, y: 0.5, zoom: 1 };
    choose(null);
  }

  const fingers = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    canvas.setPointerCapture(event.pointerId);
    moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return choose(nearest(event.offsetX, event.offsetY, 24));
    const now = [event.offsetX, event.offsetY];
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    if (other) {
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
      zoomBy(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else {
      view.x -= (now[0] - before[0]) / scale();
      view.y -= (now[1] - before[1]) / scale();
      choose(null);
    }
    fingers.set(event.pointerId, now);
  });
  canvas.addEventListener("pointerup", (event) => {
    fingers.delete(event.pointerId);
    if (moved > 6) return;
    choose(nearest(event.offsetX, event.offsetY, 24));
    if (at !== null && event.pointerType === "mouse") showImage(map.images[at]);
  });
  canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => { if (document.activeElement !== canvas) choose(null); });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return; // scrolls the page
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("focus", () => { if (at === null) choose(nearest(width / 2, height / 2, Infinity)); });
  canvas.addEventListener("blur", () => choose(null));
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (way && at !== null) choose(towards(at, way));
    else if (event.key === "Enter" && at !== null) showImage(map.images[at]);
    else if (event.key === "+" || event.key === "=") zoomBy(1.5);
    else if (event.key === "-") zoomBy(1 / 1.5);
    else if (event.key === "0") zoomBy(0);
    else return;
    event.preventDefault();
  });

  /** The nearest point in a direction; the point itself if there is none. */
  function towards(from, [dx, dy]) {
    let best = from, least = Infinity;
    for (let k = 0; k < map.x.length; k++) {
      const x = toX(k) - toX(from), y = toY(k) - toY(from);
      const along = x * dx + y * dy, across = Math.abs(x * dy) + Math.abs(y * dx);
      if (along <= 0 || (only !== null && groupOf(k) !== only)) continue;
      if (along + 2 * across < least) [best, least] = [k, along + 2 * across];
    }
    return best;
  }

  choice("map-colour", (value) => { by = value; only = null; fillLegend(); draw(); });
  choice("map-marks", (value) => { pictures = value === "images"; draw(); });
  document.getElementById("zoom-in").addEventListener("click", () => zoomBy(1.5));
  document.getElementById("zoom-out").addEventListener("click", () => zoomBy(1 / 1.5));
  new ResizeObserver(draw).observe(canvas);
  repaint.push(() => { fillLegend(); draw(); });
  fillLegend();
}
