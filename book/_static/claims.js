// Filters of the claims page. Without this script every claim is shown; the choices are kept in the
// address, so that a filtered page can be linked: claims.html?document=004&verdict=refuted
const form = document.querySelector(".claim-filters");
const tables = [...document.querySelectorAll("table.claims")].map((table) => ({
  table,
  section: table.closest("section"), // a chapter's, in a document's
  rows: [...table.tBodies[0].rows].map((row) => ({
    row,
    verdict: row.querySelector(".verdict-badge").classList[1],
  })),
}));
const documents = new Set(tables.map(({ section }) => section.parentElement));

const count = (n) => (n > 1 ? `${n} affirmations affichées` : `${n} affirmation affichée`);

function apply() {
  const wanted = Object.fromEntries(new FormData(form));
  let shown = 0;
  for (const { table, section, rows } of tables) {
    const here = ["document", "chapitre"].every(
      (name) => !wanted[name] || table.dataset[name] === wanted[name]
    );
    let kept = 0;
    for (const { row, verdict } of rows) {
      row.hidden = !here || Boolean(wanted.verdict && verdict !== wanted.verdict);
      kept += !row.hidden;
    }
    section.hidden = !kept;
    shown += kept;
  }
  for (const part of documents) {
    part.hidden = [...part.querySelectorAll(":scope > section")].every((section) => section.hidden);
  }
  form.querySelector("[role=status]").textContent = count(shown);
}

function remember() {
  const wanted = [...new FormData(form)].filter(([, value]) => value);
  const query = wanted.length ? `?${new URLSearchParams(wanted)}` : "";
  history.replaceState(null, "", location.pathname + query);
}

// An address may ask for a filter, or for one claim, which must then be shown.
function obey() {
  const query = new URLSearchParams(location.search);
  for (const choice of form.querySelectorAll("select")) {
    const value = query.get(choice.name) || "";
    choice.value = [...choice.options].some((option) => option.value === value) ? value : "";
  }
  apply();
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.closest("[hidden]")) {
    form.reset();
    apply();
    target.scrollIntoView();
  }
}

if (form) {
  form.hidden = false;
  form.addEventListener("change", () => { apply(); remember(); });
  form.addEventListener("reset", () => setTimeout(() => { apply(); remember(); }));
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", obey);
  obey();
}
