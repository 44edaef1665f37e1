// A formula wider than the screen scrolls inside its line: let the keyboard reach it.
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  document.querySelectorAll("mjx-container[display='true']").forEach((formula) => {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
  });
});

// An explorer, only where a cell asks for it.
const explorer = document.createElement("script");
explorer.src = new URL("explorer.js", document.currentScript.src);
document.addEventListener("DOMContentLoaded", () => {
  if (document.querySelector(".tag_explorer")) document.head.append(explorer);
});
