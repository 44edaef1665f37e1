// A formula wider than the screen scrolls inside its line: let the keyboard reach it. One that
// stands in a sentence takes a line of its own for that.
function placeFormulas() {
  document.querySelectorAll("article mjx-container:not([display])").forEach((formula) => {
    const place = formula.closest("p, li, td, dd, summary");
    if (formula.offsetWidth > place?.clientWidth) formula.classList.add("wide");
  });
  document.querySelectorAll("mjx-container:is([display], .wide)").forEach((formula) => {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
  });
}
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  placeFormulas();
  document.addEventListener("toggle", placeFormulas, true); // a solution that opens
});

// An explorer, only where a cell asks for it.
const explorer = document.createElement("script");
explorer.src = new URL("explorer.js", document.currentScript.src);
document.addEventListener("DOMContentLoaded", () => {
  if (document.querySelector(".tag_explorer")) document.head.append(explorer);
});
