// A formula wider than the screen scrolls inside its line: let the keyboard reach it.
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  document.querySelectorAll("mjx-container[display='true']").forEach((formula) => {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
  });
});
