// Summaries of the search results: Sphinx looks for the searched words letter by letter, and so
// misses « réseau » when « reseau » was typed. Words are compared here as they are in the index.
const found = new Set();

const articleText = (html) => {
  const page = new DOMParser().parseFromString(html, "text/html");
  const article = page.querySelector("article.bd-article");
  if (!article) return "";
  article.querySelectorAll(".headerlink, .provenance, script, style").forEach((e) => e.remove());
  article.querySelectorAll("h1, h2, h3, p, li, dt, dd, caption, th, td, pre").forEach((e) => e.append(" "));
  return article.textContent.replace(/\s+/g, " ").trim();
};

Search.makeSearchSummary = (html, stems) => {
  const text = articleText(html);
  const stemmer = new Stemmer();
  const matches = [...text.matchAll(/[\p{Letter}\p{Number}_]+/gu)].filter((word) =>
    stems.has(stemmer.stemWord(fold(word[0])))
  );
  matches.forEach((word) => found.add(word[0].toLowerCase()));
  localStorage.setItem("sphinx_highlight_terms", [...found].join(" "));

  const start = Math.max((matches.length ? matches[0].index : 0) - 100, 0);
  const end = start + 240;
  const summary = document.createElement("p");
  summary.className = "context";
  let position = start;
  summary.append(start ? "… " : "");
  for (const word of matches.filter((word) => word.index + word[0].length < end)) {
    const mark = document.createElement("mark");
    mark.textContent = word[0];
    summary.append(text.slice(position, word.index), mark);
    position = word.index + word[0].length;
  }
  summary.append(text.slice(position, end), end < text.length ? " …" : "");
  return summary;
};
