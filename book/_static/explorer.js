// What the explorers share. course.js loads this file where a cell carries the tag « explorer »; the
// style then the script of that explorer follow: with a second tag « explorer-NAME », NAME.js; else
// convolution.js. The widget takes the place of the cell's animation, which stays for print and for
// readers without JavaScript.
// Classic scripts and not modules: browsers refuse to import modules from file:// pages, and
// `make book` tells the reader to open one.
(() => {
  "use strict";

  const HERE = document.currentScript.src;

  // Numbers and words, in French ---------------------------------------------------------------

  const french = (text) => text.replace(/ ([:;»])/g, "\u00a0$1").replaceAll("« ", "«\u00a0");

  const rounded = (value, decimals) => Number(value.toFixed(decimals)) + 0; // never −0
  const number = (value, decimals = 3, least = 0) =>
    rounded(value, decimals)
      .toLocaleString("fr-FR", { maximumFractionDigits: decimals, minimumFractionDigits: least })
      .replace("-", "−");

  // The page ----------------------------------------------------------------------------------

  const options = (names, values = names.map((_, i) => i)) =>
    names.map((name, i) => `<option value="${values[i]}">${name}</option>`).join("");

  const choice = (name, label, content) =>
    `<label>${label} <select name="${name}" autocomplete="off">${content}</select></label>`;

  const button = (name, label) => `<button type="button" data-action="${name}">${label}</button>`;

  const write = (element, text) => {
    element.textContent = french(text.replace(/\s*\n\s*/g, " "));
  };

  // Put a widget before `cell`, in the place of its animation; `fill(root)` makes its content.
  const mount = (cell, kind, label, fill) => {
    const root = document.createElement("section");
    root.className = `explorer ${kind}`;
    root.setAttribute("aria-label", label);
    fill(root); // before it is in the page: nothing of it is spoken at once
    cell.before(root);
    cell.querySelectorAll(".cell_output img").forEach((image) => image.classList.add("explored"));
  };

  window.courseExplorer = { french, rounded, number, options, choice, button, write, mount };

  const tag = /\btag_explorer-([a-z]+)/.exec(document.querySelector(".tag_explorer").className);
  const script = document.createElement("script");
  script.src = new URL(`${tag ? tag[1] : "convolution"}.js`, HERE);
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("explorer.css", HERE);
  style.onload = () => document.head.append(script); // never without its style
  document.head.append(style);
})();
