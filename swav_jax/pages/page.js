"use strict";
// What all pages have: data, light and dark colours, curves that say their values.

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

/** A button that is not the most important thing around. */
const button = (text, onclick, attributes = {}) =>
  make("button", { class: "quiet", type: "button", onclick, ...attributes }, text);

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
