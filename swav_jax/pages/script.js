"use strict";
// Fills the sections of a report from its data. Images are numbered by their place in the report.

const data = JSON.parse(document.getElementById("data").textContent);

/** An element with attributes ("onclick" and the like are listeners) and children or texts. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const plural = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;

// ---- light and dark ---------------------------------------------------------------------------
const darkSystem = matchMedia("(prefers-color-scheme: dark)");
const theme = document.getElementById("theme");
const repaint = []; // functions to call when colours have changed
let dark = darkSystem.matches;

function setTheme(toDark, chosen) {
  dark = toDark;
  if (chosen) document.documentElement.style.colorScheme = dark ? "dark" : "light";
  theme.textContent = dark ? "Light" : "Dark";
  theme.setAttribute("aria-label", `Use ${dark ? "light" : "dark"} colours`);
  for (const paint of repaint) paint();
}
theme.addEventListener("click", () => setTheme(!dark, true));
darkSystem.addEventListener("change", (event) => setTheme(event.matches, false));
setTheme(dark, false);

// ---- curves: the value under the pointer ------------------------------------------------------
for (const figure of document.querySelectorAll(".curve")) {
  const svg = figure.querySelector("svg");
  const shown = figure.querySelector("b");
  const last = shown.textContent;
  const cursor = svg.querySelector(".cursor");
  const points = JSON.parse(svg.dataset.points); // [x and y in the drawing, text]
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    const far = (point) => Math.abs(point[0] - x) + Math.abs(point[1] - y) / 4;
    const near = points.reduce((a, b) => (far(b) < far(a) ? b : a));
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, near[0]);
    cursor.removeAttribute("visibility");
    shown.textContent = near[2];
  });
  svg.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    shown.textContent = last;
  });
}

if (data.images) report(data.images);

function report(images) {
  // ---- images: tiles of a few sheets ----------------------------------------------------------
  const perSheet = images.columns * images.columns;
  const sheets = images.sheets.map((text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return URL.createObjectURL(new Blob([bytes], { type: "image/webp" }));
  });
  const rules = sheets.map((url, i) => `.sheet${i}{background-image:url(${url})}`);
  document.head.append(make("style", {}, `:root{--columns:${images.columns}}${rules.join("")}`));

  const nameOf = (i) => images.names[i];
  const labelOf = (i) => (images.labels && images.labels[i] >= 0 ? images.classes[images.labels[i]] : "");
  const clusterOf = (i) => images.clusters[i];
  const described = (i) => [nameOf(i), labelOf(i), `cluster ${clusterOf(i)}`].filter(Boolean).join(", ");

  function place(i) {
    const inSheet = i % perSheet;
    return [Math.floor(i / perSheet), inSheet % images.columns, Math.floor(inSheet / images.columns)];
  }

  function tile(i, options = {}) {
    const [sheet, x, y] = place(i);
    return make(options.tag || "button", {
      class: `tile sheet${sheet} ${options.class || ""}`,
      style: `--x:${x};--y:${y}`,
      title: options.title || described(i),
      "aria-label": options.title || described(i),
      ...(options.tag ? { role: "img" } : { type: "button", onclick: () => showImage(i) }),
    });
  }

  /** Tiles beside each other, one stop of the Tab key; arrow keys move among them. */
  function tiles(numbers, title = () => undefined) {
    const group = make("div", { class: "tiles", role: "group" }, ...numbers.map((i, k) => tile(i, { title: title(k) })));
    [...group.children].forEach((child, k) => (child.tabIndex = k ? -1 : 0));
    group.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const next = step && [...group.children].indexOf(document.activeElement) + step;
      if (!step || !group.children[next]) return;
      event.preventDefault();
      document.activeElement.tabIndex = -1;
      group.children[next].tabIndex = 0;
      group.children[next].focus();
    });
    return group;
  }

  // ---- the dialog: an image with its neighbours, or a cluster ---------------------------------
  const dialog = document.getElementById("dialog");
  const closing = () => make("button", { class: "quiet", type: "button", onclick: () => dialog.close() }, "Close");
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  function show(...content) {
    dialog.replaceChildren(...content);
    dialog.scrollTop = 0;
    if (!dialog.open) dialog.showModal();
  }

  function showImage(i) {
    const label = labelOf(i);
    const near = images.neighbours[i];
    const cosines = images.similarities[i];
    show(
      make(
        "div", { class: "head" },
        tile(i, { tag: "div", class: "big" }),
        make(
          "div", {},
          make("h3", {}, nameOf(i)),
          make("p", { class: "muted" }, label ? `label ${label}, ` : "", `cluster ${clusterOf(i)}`),
          make("button", { class: "quiet", type: "button", onclick: () => showCluster(clusterOf(i)) }, `All of cluster ${clusterOf(i)}`),
        ),
        closing(),
      ),
      make("p", { class: "small muted" }, `Nearest of the ${plural(images.names.length, "image")} in this report, by cosine similarity of features`),
      tiles(near, (k) => `${described(near[k])}, similarity ${cosines[k]}`),
    );
  }

  function showCluster(number) {
    const cluster = data.clusters.find((cluster) => cluster.number === number);
    const members = range(cluster.first, cluster.end);
    const left = cluster.size - members.length;
    show(
      make(
        "div", { class: "head" },
        make(
          "div", {},
          make("h3", {}, `Cluster ${number}`),
          make("p", { class: "muted" }, plural(cluster.size, "image"), left ? `; the ${members.length.toLocaleString("en")} that are in this page:` : "", " best ones first"),
        ),
        closing(),
      ),
      cluster.shares ? make("p", { class: "small muted" }, shareTexts(cluster).join(" \u00b7 ")) : "",
      tiles(members),
    );
  }

  const range = (first, end) => Array.from({ length: end - first }, (_, k) => first + k);
  const percent = (share) => `${Math.round(100 * share)} %`;

  function summary(cluster) {
    const parts = [plural(cluster.size, "image")];
    if (cluster.shares?.length) parts.push(`${percent(cluster.purity)} ${images.classes[cluster.shares[0][0]]}`);
    return parts.join(", ");
  }

  const shareTexts = (cluster) => cluster.shares.map(([label, share]) => `${images.classes[label]}: ${percent(share)}`);

  // ---- the gallery of clusters ----------------------------------------------------------------
  const gallery = document.getElementById("gallery");
  const FEW = 12;
  const PAGE = 24;
  const orders = {
    size: (a, b) => b.size - a.size,
    purity: (a, b) => b.purity - a.purity || b.size - a.size,
    tightness: (a, b) => b.score - a.score,
  };
  let order = "size";
  let count = PAGE;

  function card(cluster) {
    const shares = (cluster.shares || []).map(([label, share]) =>
      make("i", { style: `width:${100 * share}%;background:${colour(label, images.classes.length)}` }));
    return make(
      "article", { class: "card" },
      make(
        "button", { class: "name", type: "button", onclick: () => showCluster(cluster.number), "aria-label": `Cluster ${cluster.number}, ${summary(cluster)}: show all` },
        make("b", {}, `Cluster ${cluster.number}`),
        make("span", { class: "muted" }, `${plural(cluster.size, "image")} \u203a`),
      ),
      tiles(range(cluster.first, Math.min(cluster.end, cluster.first + FEW))),
      cluster.shares ? make("div", { class: "share", "aria-hidden": "true" }, ...shares) : "",
      cluster.shares ? make("div", { class: "small muted one-line" }, shareTexts(cluster).slice(0, 3).join(", ")) : "",
    );
  }

  function fillGallery() {
    const used = data.clusters.filter((cluster) => cluster.size).sort(orders[order]);
    gallery.replaceChildren(...used.slice(0, count).map(card));
    const more = document.getElementById("more-clusters");
    more.hidden = used.length <= count;
    more.textContent = `Show all ${plural(used.length, "cluster")}`;
  }

  choice("gallery-order", (value) => { order = value; fillGallery(); });
  document.getElementById("more-clusters").addEventListener("click", () => { count = Infinity; fillGallery(); });

  /** Buttons of which one is pressed. */
  function choice(id, chosen) {
    const buttons = [...(document.getElementById(id)?.querySelectorAll("button") || [])];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        chosen(button.dataset.value);
      });
    }
  }

  // ---- colours --------------------------------------------------------------------------------
  // Ten colours that colour-blind people can tell apart (M. A. Petroff, Accessible color sequences
  // for data visualization, 2021; on dark, three are lighter); more classes get hues in turn, and
  // the legend picks one out.
  function colour(number, many) {
    const [red, violet, slate] = dark ? ["#ff6a4d", "#b27be0", "#8a90a3"] : ["#bd1f01", "#832db6", "#717581"];
    const ten = ["#3f90da", "#ffa90e", red, "#94a4a2", violet, "#a96b59", "#e76300", "#b9ac70", slate, "#92dadd"];
    if (number < 0) return "#8888";
    if (many <= ten.length) return ten[number];
    const lightness = (dark ? [0.72, 0.82, 0.62] : [0.6, 0.72, 0.48])[number % 3];
    return `oklch(${lightness} 0.14 ${(number * 137.5) % 360})`;
  }

  fillGallery();
  repaint.push(fillGallery);

  // ---- neighbours of chosen images ------------------------------------------------------------
  const rows = document.getElementById("neighbour-rows");
  const shuffle = document.getElementById("shuffle");

  function fillNeighbours() {
    const numbers = Array.from({ length: Math.min(6, images.names.length) }, () => Math.floor(Math.random() * images.names.length));
    rows.replaceChildren(...numbers.map((i) => make(
      "div", { class: "row" },
      make("div", { class: "query" }, tile(i)),
      make("div", { class: "text small" }, nameOf(i), make("br"), make("span", { class: "muted" }, [labelOf(i), `cluster ${clusterOf(i)}`].filter(Boolean).join(", "))),
      tiles(images.neighbours[i].slice(0, 12), (k) => `${described(images.neighbours[i][k])}, similarity ${images.similarities[i][k]}`),
    )));
  }
  shuffle.addEventListener("click", fillNeighbours);
  fillNeighbours();

  // ---- near-duplicates and outliers -----------------------------------------------------------
  const FIRST = 6; // of a group
  for (const strip of document.querySelectorAll("[data-images]")) {
    const members = JSON.parse(strip.dataset.images);
    const shown = strip.classList.contains("alike") ? members.slice(0, FIRST) : members;
    const all = () => show(
      make("div", { class: "head" }, make("div", {}, make("h3", {}, plural(members.length, "near-duplicate"))), closing()),
      tiles(members),
    );
    strip.replaceChildren(tiles(shown));
    if (shown.length < members.length) {
      strip.append(make("button", { class: "quiet", type: "button", onclick: all, "aria-label": `All ${members.length} of the group` }, `+${members.length - shown.length}`));
    }
  }

  if (data.map) drawMap(data.map);

  // ---- the map --------------------------------------------------------------------------------
  function drawMap(map) {
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

    const sizes = data.clusters.map((cluster) => cluster.number);
    const groupOf = (k) => (by === "label" ? images.labels[map.images[k]] : clusterOf(map.images[k]));
    const groups = () => (by === "label" ? images.classes.length : 1 + Math.max(...sizes));
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
        if (image.complete) context.drawImage(image, column * images.side, row * images.side, images.side, images.side, x, y, side, side);
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
        hover.replaceChildren(tile(i, { tag: "div" }), make("div", {}, nameOf(i)), make("div", { class: "muted" }, [labelOf(i), `cluster ${clusterOf(i)}`].filter(Boolean).join(", ")));
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
}
