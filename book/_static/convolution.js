// An explorer of the two-dimensional convolution that layers compute (the kernel is not flipped).
// explorer.js, which holds what explorers share, loads it.
(() => {
  "use strict";

  const { french, rounded, number, options, choice, button, write, mount } = courseExplorer;
  const DENSE = 12; // beyond this many columns, the numbers of a grid are hidden
  const DARKEST = 40; // grey of the lowest value: a window's outline stays visible on it

  // One hexadecimal digit a pixel. The eye is a detail of scikit-image's « chelsea » (a cat, public
  // domain): columns 125 to 225, rows 65 to 165, in grey, reduced to 20 × 20 and sixteen levels.
  const IMAGES = [
    ["du document", "11100 01110 00111 00110 01100"],
    ["bord vertical", "0009999 0009999 0009999 0009999 0009999 0009999 0009999"],
    ["croix", "0000000 0001000 0001000 0111110 0001000 0001000 0000000"],
    ["dégradé", "0123456 0123456 0123456 0123456 0123456 0123456 0123456"],
    [
      "œil de chat (photographie)",
      `ccacdb9bca78bcccc879 cbcefdabbca7abccc768 dddddeddcbdcbccdb77a deeeecbaabbddbddb78c
       ddb8445434669cddc78c b8304776521116cdc99c da34aa997412324ccbcd ea29cbaa64223524bcdd
       fa2ababb013156606cdd fb3acaa7002267812bdd fe37ba950003788209dd ef85ca970015699217de
       ced47ba931568b6525de 8bfa39cb7679c84513cf 88afb57ccbcc835213bf 997aed6456531221139e
       9989aceb63223453338d a999a9befdccbca5437c b9ab999aceffec96635b aa9aa9a99bccda877459`,
    ],
    ["au hasard", "0000 0000 0000 0000"], // drawn when chosen
  ];
  const RANDOM = IMAGES.length - 1;

  const KERNELS = [
    ["du document", "1 0 1; 0 1 0; 1 0 1"],
    ["identité", "0 0 0; 0 1 0; 0 0 0"],
    ["moyenne", "1/9 1/9 1/9; 1/9 1/9 1/9; 1/9 1/9 1/9"],
    ["contours", "-1 -1 -1; -1 8 -1; -1 -1 -1"],
    ["netteté", "0 -1 0; -1 5 -1; 0 -1 0"],
    ["filtre 1 du document", "-1 -1 -1; 1 1 1; 0 0 0"],
    ["filtre 2 du document", "-1 1 0; -1 1 0; -1 1 0"],
    ["filtre 3 du document", "0 0 0; 1 1 1; -1 -1 -1"],
    ["filtre 4 du document", "0 1 -1; 0 1 -1; 0 1 -1"],
  ];

  // Arithmetic --------------------------------------------------------------------------------

  const outputSize = (n, f, s, p) => Math.max(0, Math.floor((n - f + 2 * p) / s) + 1);

  const grid = (rows, columns, value) =>
    Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (_, j) => value(i, j)));

  const pad = (image, padding) =>
    grid(image.length + 2 * padding, image[0].length + 2 * padding, (i, j) =>
      image[i - padding]?.[j - padding] ?? 0
    );

  const convolve = (image, kernel, stride = 1, padding = 0) => {
    const padded = pad(image, padding);
    const rows = outputSize(image.length, kernel.length, stride, padding);
    const columns = outputSize(image[0].length, kernel[0].length, stride, padding);
    const at = (i, j) =>
      kernel.flatMap((line, u) => line.map((w, v) => padded[i * stride + u][j * stride + v] * w))
        .reduce((total, product) => total + product, 0);
    return rows && columns ? grid(rows, columns, at) : [];
  };

  // Same centre; what is missing is filled with zeros.
  const resize = (texts, size) => {
    const shift = Math.floor((texts.length - size) / 2);
    return grid(size, size, (i, j) => texts[i + shift]?.[j + shift] ?? "0");
  };

  const readImage = (rows) => rows.split(/\s+/).map((row) => [...row].map((c) => parseInt(c, 16)));
  const readKernel = (rows) => rows.split("; ").map((row) => row.split(" ").map(tidy));
  const randomImage = () => grid(4, 4, () => Math.floor(10 * Math.random()));

  // Numbers and words, in French ---------------------------------------------------------------

  const tidy = (text) =>
    text.replace(/[\s+]/g, "").replace(/-/g, "−").replaceAll(".", ",");

  // An integer, a decimal (comma or point) or a fraction; anything else is NaN.
  const parseNumber = (text) => {
    const decimal = (part) => (/^-?\d*\.?\d+$/.test(part) ? Number(part) : NaN);
    const plain = text.trim().replace(/^\+/, "").replace("−", "-").replaceAll(",", ".");
    const parts = plain.split("/").map(decimal);
    const value = parts.length > 2 ? NaN : parts[0] / (parts[1] ?? 1);
    return Number.isFinite(value) ? value : NaN;
  };

  const equals = (value) => (Math.abs(value - rounded(value, 3)) < 1e-9 ? "=" : "≈");
  const size = (side) => `${side}\u00a0×\u00a0${side}`;
  const term = (pixel, weight) => `${pixel}×${/[−/]/.test(weight) ? `(${weight})` : weight}`;

  const formula = (n, f, s, p) =>
    `⌊(${n} − ${f} + 2 × ${p}) / ${s}⌋ + 1 = ${outputSize(n, f, s, p)}`.replaceAll(" ", "\u00a0");

  // How many of the last lines and columns no window reaches.
  const left = (n, f, s, p) => (n + 2 * p - f) % s;

  const remark = (n, f, s, p) => {
    const image = p ? "l’image remplie" : "l’image";
    const count = left(n, f, s, p);
    if (n + 2 * p < f)
      return `Le noyau ${size(f)} est plus grand que ${image} ${size(n + 2 * p)} : il n’y tient nulle
        part, et il n’y a pas de sortie. Ajoutez du remplissage ou prenez un noyau plus petit.`;
    const last = count === 1
      ? "la dernière ligne et la dernière colonne"
      : `les ${count} dernières lignes et les ${count} dernières colonnes`;
    return [
      count ? `La division ${n + 2 * p - f} / ${s} ne tombe pas juste : aucune fenêtre n’atteint
        ${last} de ${image} (cases barrées).` : "",
      s > f ? `Le pas dépasse la taille du noyau : entre deux fenêtres, la lecture saute des
        cases (barrées elles aussi).` : "",
    ].join(" ").trim();
  };

  // The page ----------------------------------------------------------------------------------

  const panel = (name, sign, content) =>
    `<div class="panel ${name}"><p class="name" id="explorer-${name}"></p>
     <div class="line"><span class="sign" aria-hidden="true">${sign}</span>${content}</div>
     <p class="range"></p></div>`;

  const table = (name, attributes = "") =>
    `<table aria-labelledby="explorer-${name}" ${attributes}></table>`;

  const frame = (content) =>
    `<div class="frame">${content}<div class="spot" aria-hidden="true"></div></div>`;

  const imageNames = IMAGES.map(([name, rows]) => `${name}, ${size(readImage(rows).length)}`);
  const kernelNames = [...KERNELS.map(([name]) => name), "le vôtre"];
  const CUSTOM = KERNELS.length;
  const sides = [1, 2, 3, 4, 5];
  const keys = 'role="grid" tabindex="0" aria-describedby="explorer-hint"';

  const TEMPLATE = `
    <div class="settings">
      ${choice("image", "Image", options(imageNames))}
      ${choice("preset", "Noyau", options(kernelNames))}
      ${choice("size", "Taille du noyau", options(sides.map(size), sides))}
      ${choice("stride", "Pas", options([1, 2, 3], [1, 2, 3]))}
      ${choice("padding", "Remplissage", options([0, 1, 2]))}
    </div>
    <div class="stage">
      ${panel("input", "", frame(table("input")))}
      ${panel("kernel", "∗", table("kernel"))}
      ${panel("output", "=", frame(table("output", keys)))}
      <p class="sum"></p>
    </div>
    <p class="error" role="alert"></p>
    <div class="buttons">
      <div>${button("previous", "Position précédente")} ${button("next", "Position suivante")}</div>
      <div>${button("toggle", "Lecture")} ${button("fill", "Tout remplir")}
        ${button("restart", "Recommencer")}</div>
    </div>
    <p class="hint" id="explorer-hint">Cliquez une case de la sortie pour aller à cette position. Au
      clavier : la touche Tab mène à la sortie, les flèches y changent de position.</p>
    <p class="formula"></p>
    <p class="remark"></p>
    <p class="spoken" role="status"></p>`;

  const shade = (cell, value, [low, high]) => {
    const level = high > low ? (value - low) / (high - low) : 0.5;
    const grey = Math.round(DARKEST + level * (255 - DARKEST));
    cell.style.background = `rgb(${grey}, ${grey}, ${grey})`;
    cell.style.color = grey > 117 ? "#000" : "#fff"; // at least 4.5 : 1 on any grey
  };

  const extremes = (values) => [Math.min(...values), Math.max(...values)];

  const range = ([low, high]) =>
    low === high
      ? `Partout ${number(low)}`
      : `Sombre :\u00a0${number(low)} ; clair :\u00a0${number(high)}`;

  const longest = (texts) => Math.max(...texts.flat().map((text) => text.length));

  // Make the cells of a table; `fill(cell, i, j)` completes each.
  const drawTable = (table, side, chars, fill) => {
    table.style.setProperty("--columns", side);
    table.style.setProperty("--chars", chars);
    const body = document.createElement("tbody");
    for (let i = 0; i < side; i++) {
      const row = body.insertRow();
      for (let j = 0; j < side; j++) fill(row.insertCell(), i, j);
    }
    table.replaceChildren(body);
  };

  // Outline `span` × `span` cells from (i, j), in a table of `side` × `side`.
  const outline = (spot, i, j, span, side) => {
    const percent = (part) => `${(100 * part) / side}%`;
    const [top, left, extent] = [i, j, span].map(percent);
    Object.assign(spot.style, { top, left, width: extent, height: extent });
  };

  class Explorer {
    constructor(root) {
      this.root = root;
      root.innerHTML = french(TEMPLATE);
      root.addEventListener("change", (event) => this.change(event.target));
      root.addEventListener("input", (event) => this.type(event.target));
      root.addEventListener("click", (event) => this.click(event.target));
      this.find(".output table").addEventListener("keydown", (event) => this.key(event));
      this.seen = [];
      this.image = readImage(IMAGES[0][1]);
      this.setKernel(readKernel(KERNELS[0][1]));
    }

    find(selector) {
      return this.root.querySelector(selector);
    }

    write(selector, text) {
      write(this.find(selector), text);
    }

    // Settings

    change(field) {
      const value = Number(field.value);
      if (field.name === "image")
        this.image = value === RANDOM ? randomImage() : readImage(IMAGES[value][1]);
      if (field.tagName === "INPUT") this.check(field);
      else if (field.name === "size") this.setKernel(resize(this.texts, value), CUSTOM);
      else if (field.name !== "preset") this.compute();
      else if (value !== CUSTOM) this.setKernel(readKernel(KERNELS[value][1]), value);
    }

    setKernel(texts, preset = 0) {
      this.texts = texts;
      this.find("[name=preset]").value = preset;
      this.find("[name=size]").value = texts.length;
      drawTable(this.find(".kernel table"), texts.length, longest(texts), (cell, i, j) => {
        cell.innerHTML = `<input type="text" maxlength="8" autocomplete="off" spellcheck="false"
          aria-label="Noyau, ligne ${i + 1}, colonne ${j + 1}" data-row="${i}" data-column="${j}">`;
        cell.firstChild.value = texts[i][j];
      });
      this.write(".kernel .name", `Noyau, ${size(texts.length)}`);
      this.write(".error", "");
      this.compute();
    }

    // A weight is used as soon as it is a number; it is called wrong only once it is finished.
    type(field) {
      if (field.tagName !== "INPUT" || Number.isNaN(parseNumber(field.value))) return;
      this.texts[field.dataset.row][field.dataset.column] = tidy(field.value);
      this.find("[name=preset]").value = CUSTOM;
      this.find(".kernel table").style.setProperty("--chars", longest(this.texts));
      this.check(field);
      this.compute();
    }

    check(field) {
      const wrong = Number.isNaN(parseNumber(field.value));
      if (wrong) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
      const first = this.find("[aria-invalid]");
      this.write(".error", first ? this.fault(first) : "");
    }

    fault(field) {
      const typed = field.value.trim();
      const what = typed ? `« ${typed} » n’est pas un nombre` : "il manque un nombre";
      const kept = this.texts[field.dataset.row][field.dataset.column];
      return `${field.getAttribute("aria-label")} : ${what}. Écrivez par exemple 2, −1, 0,5 ou 1/9.
        En attendant, le calcul garde ${kept}.`;
    }

    // Everything that depends on the settings

    compute() {
      this.pause();
      [this.stride, this.padding] = ["stride", "padding"].map((name) =>
        Number(this.find(`[name=${name}]`).value)
      );
      this.padded = pad(this.image, this.padding);
      const kernel = this.texts.map((row) => row.map(parseNumber));
      const output = convolve(this.image, kernel, this.stride, this.padding);
      this.columns = output.length;
      this.values = output.flat();
      this.keepOrClear();
      const sizes = [this.image.length, kernel.length, this.stride, this.padding];
      this.drawInput(...sizes);
      this.drawOutput();
      this.write(".formula", `Côté de la sortie : ${formula(...sizes)}`);
      this.write(".remark", remark(...sizes));
      this.root.classList.toggle("impossible", !this.columns);
      if (this.columns) this.go(this.position);
      else this.spoken = "";
      this.write(".spoken", `${this.outputName()}. ${remark(...sizes)} ${this.spoken}`);
    }

    // An output of the same size keeps its position; one that was full stays full.
    keepOrClear() {
      if (this.values.length === this.seen.length) return;
      const full = this.seen.length > 1 && this.seen.every(Boolean);
      this.seen = this.values.map(() => full);
      this.position = 0;
    }

    outputName() {
      return this.columns ? `Sortie, ${size(this.columns)}` : "Pas de sortie";
    }

    drawInput(n, f, s, p) {
      const total = n + 2 * p;
      const ends = extremes(this.image.flat());
      const end = total < f ? total : total - left(n, f, s, p);
      const inside = (i) => i >= p && i < n + p;
      const read = (i) => total < f || (i < end && i % s < f);
      this.digits = longest(this.image.map((row) => row.map(String)));
      drawTable(this.find(".input table"), total, this.digits, (cell, i, j) => {
        cell.innerHTML = `<span>${this.padded[i][j]}</span>`;
        if (inside(i) && inside(j)) shade(cell, this.padded[i][j], ends);
        else cell.className = "padding";
        cell.classList.toggle("unread", !(read(i) && read(j)));
      });
      this.root.classList.toggle("dense", total > DENSE);
      this.root.style.setProperty("--side", total);
      this.write(".input .name", `Image, ${size(n)}${p ? ` ; remplie, ${size(total)}` : ""}`);
      this.write(".input .range", range(ends) + (p ? " ; hachures : remplissage" : ""));
    }

    drawOutput() {
      const chars = longest(["0", ...this.values.map((value) => number(value, 2))]);
      drawTable(this.find(".output table"), this.columns, chars, (cell, i, j) => {
        cell.id = `explorer-${i}-${j}`;
      });
      this.cells = [...this.root.querySelectorAll(".output td")];
      this.ends = extremes(this.values);
      this.write(".output .name", this.outputName());
      this.write(".output .range", this.columns ? range(this.ends) : "");
      this.root.querySelectorAll("button").forEach((button) => (button.disabled = !this.columns));
      this.seen.forEach((seen, k) => seen && this.show(k));
    }

    // One position

    show(k) {
      this.seen[k] = true;
      this.cells[k].dataset.value = this.values[k];
      this.cells[k].innerHTML = `<span>${number(this.values[k], 2)}</span>`;
      shade(this.cells[k], this.values[k], this.ends);
    }

    go(k) {
      const { cells, columns, stride, texts } = this;
      const [i, j] = [Math.floor(k / columns), k % columns];
      cells[this.position].removeAttribute("aria-selected");
      cells[k].setAttribute("aria-selected", "true");
      this.position = k;
      this.show(k);
      this.find(".output table").setAttribute("aria-activedescendant", cells[k].id);
      outline(this.find(".output .spot"), i, j, 1, columns);
      outline(this.find(".input .spot"), i * stride, j * stride, texts.length, this.padded.length);
      this.writeSum(i, j);
      this.find("[data-action=previous]").setAttribute("aria-disabled", k === 0);
      this.find("[data-action=next]").setAttribute("aria-disabled", k === cells.length - 1);
      if (!this.timer) this.write(".spoken", this.spoken);
    }

    // One line a row of the kernel; the width of a term does not depend on the position.
    writeSum(i, j) {
      const value = this.values[this.position];
      const pixel = (u, v) => this.padded[i * this.stride + u][j * this.stride + v];
      const terms = this.texts.map((row, u) => row.map((weight, v) => term(pixel(u, v), weight)));
      const result = `${equals(value)}\u00a0${number(value)}`;
      const place = `Ligne ${i + 1}, colonne ${j + 1}\u00a0:`;
      const lines = terms.map((row) => row.map((text) => `<span>${text} +</span>`).join(" "));
      const sum = this.find(".sum");
      sum.innerHTML = `<strong>${place}</strong> ${lines.join(" <br>").slice(0, -" +</span>".length)}
        </span> <strong>${result}</strong>`;
      sum.classList.toggle("long", terms.length > 3);
      sum.style.setProperty("--terms", terms.length);
      sum.style.setProperty("--chars", this.digits + longest(this.texts.flat().map((w) => term("", w))));
      this.spoken = `${place} ${number(value)}. ${terms.flat().join(" + ")} ${result}`;
    }

    // Buttons, keys, clicks

    previous() {
      this.jump(Math.max(0, this.position - 1));
    }

    next() {
      this.jump(Math.min(this.cells.length - 1, this.position + 1));
    }

    jump(k) {
      this.pause();
      this.go(k);
    }

    toggle() {
      if (this.timer) this.pause();
      else this.play();
    }

    play() {
      if (this.position === this.cells.length - 1) this.restart();
      // Two positions a second; a large output takes about twelve seconds in all.
      const delay = Math.min(500, Math.max(40, 12_000 / this.cells.length));
      this.root.style.setProperty("--move", `${delay / 2}ms`);
      this.timer = setInterval(() => this.tick(), delay);
      this.write("[data-action=toggle]", "Pause");
    }

    tick() {
      const last = this.cells.length - 1;
      this.go(Math.min(last, this.position + 1));
      if (this.position === last) this.pause();
    }

    pause() {
      if (!this.timer) return;
      clearInterval(this.timer);
      this.timer = null;
      this.root.style.removeProperty("--move");
      this.write("[data-action=toggle]", "Lecture");
      this.write(".spoken", this.spoken);
    }

    fill() {
      this.pause();
      this.cells.forEach((_, k) => this.show(k));
      this.write(".spoken", `${this.outputName()}, remplie. ${range(this.ends)}.`);
    }

    restart() {
      this.pause();
      this.seen.fill(false);
      this.position = 0;
      this.drawOutput();
      this.go(0);
    }

    click(target) {
      const action = target.dataset.action;
      const cell = target.closest(".output td");
      if (action) this[action]();
      else if (cell) this.jump(this.cells.indexOf(cell));
    }

    key(event) {
      const { position: k, columns, cells } = this;
      const last = cells.length - 1;
      const target = {
        ArrowLeft: k % columns ? k - 1 : k,
        ArrowRight: k % columns < columns - 1 ? k + 1 : k,
        ArrowUp: k >= columns ? k - columns : k,
        ArrowDown: k + columns <= last ? k + columns : k,
        Home: 0,
        End: last,
      }[event.key];
      if (target === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault(); // the page does not scroll
      this.jump(target);
    }
  }

  const place = (cell) =>
    mount(cell, "convolution", "Explorateur de la convolution", (root) => new Explorer(root));

  place(document.querySelector(".tag_explorer"));

  window.convolutionExplorer = { outputSize, convolve, parseNumber, mount: place }; // for the tests
})();
