// The images of a report: tiles, dialogs, clusters, neighbours. Images are numbered by their place.

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
  const labelOf = (i) => images.classes[images.labels?.[i]] ?? ""; // -1 has no name
  const clusterOf = (i) => images.clusters[i];
  const about = (i) => [labelOf(i), `cluster ${clusterOf(i)}`].filter(Boolean).join(", ");
  const described = (i) => `${nameOf(i)}, ${about(i)}`;

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
  const closing = () => button("Close", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  function show(...content) {
    dialog.replaceChildren(...content);
    dialog.scrollTop = 0;
    if (!dialog.open) dialog.showModal();
  }

  function showImage(i) {
    show(
      make(
        "div", { class: "head" },
        tile(i, { tag: "div", class: "big" }),
        make(
          "div", {},
          make("h3", {}, nameOf(i)),
          make("p", { class: "muted" }, about(i)),
          button(`All of cluster ${clusterOf(i)}`, () => showCluster(clusterOf(i))),
        ),
        closing(),
      ),
      make("p", { class: "small muted" }, "Nearest in this report, by cosine similarity of features"),
      neighbours(i, images.neighbours[i].length),
    );
  }

  /** The nearest images of one. */
  function neighbours(i, count) {
    const near = images.neighbours[i].slice(0, count);
    return tiles(near, (k) => `${described(near[k])}, similarity ${images.similarities[i][k]}`);
  }

  function showCluster(number) {
    const cluster = data.clusters[number];
    const members = range(cluster.first, cluster.end);
    const part = members.length < cluster.size ? `, ${members.length.toLocaleString("en")} of them in this page` : "";
    show(
      make(
        "div", { class: "head" },
        make(
          "div", {},
          make("h3", {}, `Cluster ${number}`),
          make("p", { class: "muted" }, `${plural(cluster.size, "image")}${part}, the best first`),
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
        "button",
        {
          class: "name", type: "button", onclick: () => showCluster(cluster.number),
          "aria-label": `Cluster ${cluster.number}, ${summary(cluster)}: show all`,
        },
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
    const count = images.names.length;
    const numbers = Array.from({ length: Math.min(6, count) }, () => Math.floor(Math.random() * count));
    rows.replaceChildren(...numbers.map((i) => make(
      "div", { class: "row" },
      make("div", { class: "query" }, tile(i)),
      make("div", { class: "text small" }, nameOf(i), make("div", { class: "muted" }, about(i))),
      neighbours(i, 12),
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
      make("div", { class: "head" }, make("div", {}, make("h3", {}, plural(members.length, "image"))), closing()),
      tiles(members),
    );
    strip.replaceChildren(tiles(shown));
    if (shown.length < members.length) {
      const label = { "aria-label": `All ${members.length} of the group` };
      strip.append(button(`+${members.length - shown.length}`, all, label));
    }
  }

  if (data.map) {
    const kit = { images, sheets, place, tile, nameOf, about, described, clusterOf, colour, choice, showImage };
    drawMap(data.map, data.clusters.length, kit);
  }
}

if (data.images) report(data.images);
