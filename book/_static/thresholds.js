// An explorer of decision thresholds: two groups, a score for each person, one threshold a group.
// explorer.js, which holds what explorers share, loads this file.
(() => {
  "use strict";

  const { french, rounded, number, options, choice, button, write, mount } = courseExplorer;

  // Arithmetic --------------------------------------------------------------------------------
  // A score falls in one of 200 bins between 0 and 1. In each class of a group the scores follow a
  // bell: a Gaussian's density in the middle of each bin, scaled to a sum of 1. Nothing is drawn at
  // random. Threshold k is the lower edge of bin k: that bin and those above are predicted 1.

  const BINS = 200;
  const SPREAD = 0.1; // standard deviation of every bell

  const centres = (separation) => [-1, 1].map((side) => 0.5 + (side * separation * SPREAD) / 2);

  const bell = (centre) => {
    const heights = Array.from({ length: BINS }, (_, k) =>
      Math.exp(-((((k + 0.5) / BINS - centre) / SPREAD) ** 2) / 2)
    );
    const total = heights.reduce((sum, height) => sum + height, 0);
    return heights.map((height) => height / total);
  };

  // Share of a histogram above each of the thresholds 0, 1, ... BINS.
  const above = (shares) => {
    const found = new Array(BINS + 1).fill(0);
    for (let k = BINS - 1; k >= 0; k--) found[k] = found[k + 1] + shares[k];
    return found;
  };

  // What each threshold gives in a group; `rate`: the share of class 1.
  const rates = ({ rate, separation }) => {
    const [falsePositives, recalls] = centres(separation).map(bell).map(above);
    return recalls.map((recall, k) => {
      const falsePositive = falsePositives[k];
      const selection = rate * recall + (1 - rate) * falsePositive;
      return {
        selection,
        recall,
        falsePositive,
        precision: selection ? (rate * recall) / selection : NaN,
        accuracy: rate * recall + (1 - rate) * (1 - falsePositive),
      };
    });
  };

  const fairMetric = (first, second) => (first + second) / 2 - 2 * Math.abs(first - second);

  // `share`: that of group A in the whole.
  const overall = (share, first, second) => share * first.accuracy + (1 - share) * second.accuracy;

  const evaluate = (groups, thresholds, share) => {
    const found = groups.map((group, i) => rates(group)[thresholds[i]]);
    return {
      groups: found,
      overall: overall(share, ...found),
      fairMetric: fairMetric(...found.map(({ accuracy }) => accuracy)),
    };
  };

  // What the buttons look for: `value` of the two groups' rates, as large as possible. The first
  // two keep the threshold of group A.
  const likeness = (name) => (first, second) => -Math.abs(first[name] - second[name]);
  const GOALS = {
    recall: { name: "Mêmes rappels", value: likeness("recall") },
    selection: { name: "Mêmes taux de sélection", value: likeness("selection") },
    metric: {
      name: "Meilleure Fair Metric",
      value: (first, second) => fairMetric(first.accuracy, second.accuracy),
      free: true,
    },
  };

  const ROUNDING = 1e-12; // equal in exact arithmetic
  const ALL = Array.from({ length: BINS + 1 }, (_, k) => k);

  // Tries the thresholds in order; among equals, the first.
  const search = (goal, groups, thresholds) => {
    const { value, free } = GOALS[goal];
    const [first, second] = groups.map(rates);
    let best = { value: -Infinity };
    for (const i of free ? ALL : [thresholds[0]])
      for (const k of ALL) {
        const found = value(first[i], second[k]);
        if (found > best.value + ROUNDING) best = { value: found, thresholds: [i, k] };
      }
    return best.thresholds;
  };

  // Words -------------------------------------------------------------------------------------

  const LETTERS = ["A", "B"];
  const NAMES = ["femmes", "hommes"];
  // Of each situation: share of class 1 (percent), then separation of the scores, in A and in B.
  const SITUATIONS = {
    document: ["taux de base du document", [24.9, 11.3], [2.6, 2.6]],
    equal: ["mêmes taux de base", [18, 18], [2.6, 2.6]],
    blurred: ["groupe B moins bien séparé", [18, 18], [2.6, 1.6]],
  };
  const CUSTOM = "custom";
  const START = { situation: "document", threshold: 112, share: 50 };

  const decimal = (k) => number(k / BINS, 3);
  const percent = (share) => `${number(100 * share, 1, 1)}\u00a0%`;
  const signed = (value, decimals) =>
    (rounded(value, decimals) > 0 ? "+" : "") + number(value, decimals, decimals);
  const points = (difference) => {
    const value = rounded(100 * difference, 1);
    if (!value) return "inchangée";
    return `${signed(value, 1)} point${Math.abs(value) < 2 ? "" : "s"}`;
  };

  const deviations = (value) => {
    const plural = value < 2 ? "" : "s";
    return `${number(value, 1, 1)} écart${plural} type${plural}`;
  };

  const FIELDS = {
    threshold: { name: "Seuil", limits: [0, BINS, 1], show: decimal },
    rate: { name: "Classe 1", limits: [1, 60, 0.1], show: (value) => percent(value / 100) },
    separation: { name: "Séparation", limits: [0, 4, 0.1], show: deviations },
  };
  const SHARE = "Part du groupe A";

  // Each setting by its field's name: how it is called and how its value is written.
  const SETTINGS = { share: { name: SHARE, show: (value) => `${value}\u00a0%` } };
  for (const [key, { name, show }] of Object.entries(FIELDS))
    for (const letter of LETTERS)
      SETTINGS[key + letter] = { name: `${name}, groupe ${letter}`, show };

  const moves = (now, before) => {
    const together = [now, before].every(({ thresholdA, thresholdB }) => thresholdA === thresholdB);
    return Object.entries(SETTINGS)
      .filter(([key]) => now[key] !== before[key] && !(together && key === "thresholdB"))
      .map(([key, { name, show }]) => {
        const label = together && key === "thresholdA" ? "Seuil commun" : name;
        return `${label} : ${show(now[key])} au lieu de ${show(before[key])}.`;
      });
  };

  const results = (now, before) => {
    const accuracies = LETTERS.map((letter, i) => {
      const [value, old] = [now, before].map(({ groups }) => groups[i].accuracy);
      return `groupe ${letter} ${percent(value)} (${points(value - old)})`;
    });
    const gained = rounded(now.fairMetric - before.fairMetric, 3);
    return `Exactitude : ${accuracies.join(", ")} ; ensemble ${percent(now.overall)}
      (${points(now.overall - before.overall)}). Fair Metric : ${number(now.fairMetric, 3, 3)}
      (${gained ? signed(gained, 3) : "inchangée"}).`;
  };

  const remark = (thresholds, { groups }) => {
    const [low, high] = [...thresholds].sort((one, other) => one - other);
    const favoured = thresholds[0] === low ? 0 : 1;
    return [
      low < high
        ? `Entre ${decimal(low)} et ${decimal(high)}, la même note est prédite 1 dans le groupe
          ${LETTERS[favoured]} et 0 dans le groupe ${LETTERS[1 - favoured]}.` : "",
      ...groups.map(({ selection }, i) =>
        selection ? "" : `Personne n’est prédit 1 dans le groupe ${LETTERS[i]} : sa précision
          n’est pas définie.`),
    ].join(" ").trim();
  };

  const formula = ({ groups, fairMetric }) => {
    const [first, second] = groups.map(({ accuracy }) => accuracy);
    const four = (value) => number(value, 4, 4);
    const mean = `(${four(first)} + ${four(second)}) / 2`.replaceAll(" ", "\u00a0");
    const gap = `2 × ${four(Math.abs(first - second))}`.replaceAll(" ", "\u00a0");
    return `Fair Metric = ${mean} − ${gap} = ${number(fairMetric, 3, 3)}`;
  };

  // The page ----------------------------------------------------------------------------------

  // Of a histogram; its sides are half a slider's thumb, so that the line is above the thumb.
  const [WIDTH, HEIGHT, SIDE, TOP, BASE] = [320, 152, 8, 24, 130];
  const across = (k) => SIDE + ((WIDTH - 2 * SIDE) * k) / BINS;

  const range = (name, label, [min, max, step]) =>
    `<label><span>${label} : <b data-setting="${name}"></b></span>
     <input type="range" name="${name}" min="${min}" max="${max}" step="${step}"
       autocomplete="off"></label>`;

  const setting = (key, letter) =>
    range(key + letter, `${FIELDS[key].name}, groupe ${letter}`, FIELDS[key].limits);

  const tick = (k) =>
    `<path class="tick" d="M${across(k)} ${BASE}v4"/><text x="${across(k)}" y="${BASE + 18}"
     class="${k ? (k === BINS ? "last" : "") : "first"}">${decimal(k)}</text>`;

  const panel = (letter, i) => `
    <div class="group" role="group" aria-labelledby="explorer-group-${letter}">
      <p class="name" id="explorer-group-${letter}">Groupe ${letter} (${NAMES[i]})</p>
      <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img">
        <rect class="paper" width="${WIDTH}" height="${HEIGHT}" rx="4"/>
        <path class="zero"/><path class="one"/>
        <path class="wrong" style="fill: url(#explorer-stripes)"/>
        <path class="axis" d="M${SIDE} ${BASE}H${WIDTH - SIDE}"/>
        ${[0, BINS / 2, BINS].map(tick).join("")}
        <text class="name zero">classe 0</text><text class="name one">classe 1</text>
        <path class="threshold"/>
        <text class="side low" y="${TOP - 9}">prédits 0</text>
        <text class="side high" y="${TOP - 9}">prédits 1</text>
      </svg>
      ${setting("threshold", letter)}
    </div>`;

  const ROWS = {
    selection: "Taux de sélection",
    recall: "Rappel",
    falsePositive: "Taux de faux positifs",
    precision: "Précision",
    accuracy: "Exactitude",
  };
  const line = (name) =>
    `<tr><th scope="row">${ROWS[name]}</th>
     ${[...LETTERS, "gap"].map((column) =>
       `<td data-name="${name}" data-column="${column}"></td>`).join("")}</tr>`;

  const total = (name, title) =>
    `<tr><th scope="row" colspan="3">${title}</th><td data-name="${name}"></td></tr>`;

  const TEMPLATE = `
    <div class="settings">
      ${choice("situation", "Situation", options(
        [...Object.values(SITUATIONS).map(([name]) => name), "la vôtre"],
        [...Object.keys(SITUATIONS), CUSTOM]))}
      <label class="check"><input type="checkbox" name="same" autocomplete="off"> Même seuil pour
        les deux groupes</label>
    </div>
    <div class="stage">${LETTERS.map(panel).join("")}</div>
    <p class="hint">Une personne dont la note atteint le seuil est prédite 1. En rayé, les erreurs :
      à gauche du seuil les manqués, à droite les faux positifs. Au clavier : la touche Tab mène à
      chaque réglage, les flèches le changent.</p>
    <div class="buttons">
      <div>${Object.entries(GOALS).map(([key, { name }]) => button(key, name)).join(" ")}</div>
      <div>${button("reset", "Réinitialiser")}</div>
    </div>
    <p class="changed" role="status">Ce que change un réglage s’écrit ici.</p>
    <table>
      <caption class="spoken">Taux de chaque groupe</caption>
      <thead><tr><th scope="col">taux</th><th scope="col">A</th><th scope="col">B</th>
        <th scope="col">A − B (points)</th></tr></thead>
      <tbody>${Object.keys(ROWS).map(line).join("")}</tbody>
      <tfoot>
        ${total("constant", "Exactitude d’ensemble si tous étaient prédits 0")}
        ${total("overall", "Exactitude d’ensemble")}
        ${total("metric", "Fair Metric")}
      </tfoot>
    </table>
    <p class="formula"></p>
    <p class="remark"></p>
    <div class="settings">
      ${["rate", "separation"].map((key) =>
        LETTERS.map((letter) => setting(key, letter)).join("")).join("")}
      ${range("share", SHARE, [10, 90, 5])}
    </div>
    <svg class="patterns" aria-hidden="true"><defs><pattern id="explorer-stripes" width="5"
      height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5"
      height="5"/><path d="M0 0V5"/></pattern></defs></svg>`;

  const QUIET = 800; // milliseconds without a change before the sentence is written and spoken

  class Explorer {
    constructor(root) {
      this.root = root;
      root.innerHTML = french(TEMPLATE);
      root.addEventListener("input", (event) => this.change(event.target));
      root.addEventListener("click", (event) => this.click(event.target.dataset.action));
      this.panels = [...root.querySelectorAll(".group")];
      this.start();
      this.said = this.now;
    }

    find(selector) {
      return this.root.querySelector(selector);
    }

    write(selector, text) {
      write(this.find(selector), text);
    }

    field(name) {
      return this.find(`[name=${name}]`);
    }

    // Settings

    start() {
      this.field("share").value = START.share;
      this.field("same").checked = true;
      this.setThresholds([START.threshold, START.threshold]);
      this.field("situation").value = START.situation;
      this.setSituation(START.situation);
    }

    setSituation(key) {
      if (key !== CUSTOM) {
        const [, ...values] = SITUATIONS[key];
        ["rate", "separation"].forEach((name, n) =>
          LETTERS.forEach((letter, i) => (this.field(name + letter).value = values[n][i]))
        );
      }
      this.update();
    }

    setThresholds(thresholds) {
      LETTERS.forEach((letter, i) => (this.field(`threshold${letter}`).value = thresholds[i]));
    }

    change({ name, value, checked }) {
      if (name === "same") {
        this.action = checked ? "Un seuil pour les deux groupes." : "Un seuil pour chaque groupe.";
        value = this.field("thresholdA").value;
      }
      const moved = name === "same" || name.startsWith("threshold");
      if (moved && this.field("same").checked) this.setThresholds([value, value]);
      if (/^(rate|separation)/.test(name)) this.field("situation").value = CUSTOM;
      if (name === "situation") this.setSituation(value);
      else this.update();
      this.announce(QUIET);
    }

    click(action) {
      if (!action) return;
      if (action === "reset") this.start();
      else this.reach(action);
      this.action = action === "reset" ? "Réglages de départ." : `${GOALS[action].name}.`;
      this.announce(0);
    }

    reach(goal) {
      const found = search(goal, this.now.groups, this.now.thresholds);
      if (found[0] !== found[1]) this.field("same").checked = false;
      this.setThresholds(found);
      this.update();
    }

    // Everything that depends on the settings

    update() {
      const fields = Object.fromEntries(
        Object.keys(SETTINGS).map((name) => [name, Number(this.field(name).value)])
      );
      const groups = LETTERS.map((letter) => ({
        rate: fields[`rate${letter}`] / 100,
        separation: fields[`separation${letter}`],
      }));
      const share = fields.share / 100;
      const thresholds = LETTERS.map((letter) => fields[`threshold${letter}`]);
      const found = evaluate(groups, thresholds, share);
      this.now = { fields, groups, thresholds, found };
      for (const [name, { show }] of Object.entries(SETTINGS))
        this.writeSetting(name, show(fields[name]));
      this.writeResults(found, share, groups);
      this.write(".formula", formula(found));
      this.write(".remark", remark(thresholds, found));
      this.draw(groups, thresholds);
    }

    writeSetting(name, text) {
      this.write(`[data-setting=${name}]`, text);
      this.field(name).setAttribute("aria-valuetext", french(text));
    }

    writeResults(found, share, groups) {
      const put = (name, value, text, column) => {
        const cell = this.find(`td[data-name=${name}]${column ? `[data-column=${column}]` : ""}`);
        cell.dataset.value = value;
        write(cell, Number.isNaN(value) ? "—" : text);
      };
      for (const name of Object.keys(ROWS)) {
        const [first, second] = found.groups.map((group) => group[name]);
        put(name, first, percent(first), "A");
        put(name, second, percent(second), "B");
        put(name, first - second, signed(100 * (first - second), 1), "gap");
      }
      const [first, second] = groups.map(({ rate }) => ({ accuracy: 1 - rate }));
      const constant = overall(share, first, second);
      put("constant", constant, percent(constant));
      put("overall", found.overall, percent(found.overall));
      put("metric", found.fairMetric, number(found.fairMetric, 3, 3));
    }

    // One sentence for all that moved since the last one. It waits until the reader stops: a slider
    // speaks its own value at each step.
    announce(delay) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => {
        const moved = moves(this.now.fields, this.said.fields);
        const sentence = [this.action ?? "", ...moved];
        sentence.push(moved.length ? results(this.now.found, this.said.found) : "Rien ne change.");
        this.write("[role=status]", sentence.join(" ").trim());
        this.said = this.now;
        this.action = null;
      }, delay);
    }

    // The histograms; both groups on one scale

    draw(groups, thresholds) {
      const histograms = groups.map(({ rate, separation }) => {
        const [zero, one] = centres(separation).map(bell);
        return [zero.map((share) => share * (1 - rate)), one.map((share) => share * rate)];
      });
      const highest = Math.max(...histograms.flat(2));
      this.panels.forEach((panel, i) => {
        const height = (share) => ((BASE - TOP) * share) / highest;
        const heights = histograms[i].map((bins) => bins.map(height));
        const middles = centres(groups[i].separation);
        this.drawBells(panel, heights, thresholds[i]);
        this.drawNames(panel, heights, middles);
        this.drawThreshold(panel, thresholds[i]);
        const [zero, one] = middles.map((middle) => number(middle, 2));
        const label = `Histogramme des notes du groupe ${LETTERS[i]} : classe 0 autour de ${zero},
          classe 1 autour de ${one} ; seuil ${decimal(thresholds[i])}`;
        panel.querySelector("svg").setAttribute("aria-label", french(label.replace(/\s+/g, " ")));
      });
    }

    drawBells(panel, [zero, one], threshold) {
      const point = (height, k) => `L${across(k + 0.5).toFixed(2)} ${(BASE - height).toFixed(2)}`;
      const area = (heights, from = 0, to = BINS) =>
        `M${across(from)} ${BASE}${heights.map(point).slice(from, to).join("")}` +
        `L${across(to)} ${BASE}Z`;
      const set = (name, path) => panel.querySelector(`path.${name}`).setAttribute("d", path);
      set("zero", area(zero));
      set("one", area(one));
      set("wrong", area(one, 0, threshold) + area(zero, threshold));
    }

    // The name of a class is beside its bell, outwards.
    drawNames(panel, heights, middles) {
      ["zero", "one"].forEach((name, i) => {
        const text = panel.querySelector(`text.${name}`);
        const height = Math.max(...heights[i]) / 2;
        text.setAttribute("x", across(BINS * (middles[i] + (i ? 1.25 : -1.25) * SPREAD)));
        text.setAttribute("y", BASE - Math.max(height, 8) - 2);
      });
    }

    drawThreshold(panel, threshold) {
      const x = across(threshold);
      panel.querySelector("path.threshold").setAttribute("d", `M${x} ${TOP - 20}V${BASE}`);
      const side = (name, shift, room) => {
        const text = panel.querySelector(`text.${name}`);
        text.setAttribute("x", x + shift);
        text.classList.toggle("narrow", room < 70);
      };
      side("low", -6, x);
      side("high", 6, WIDTH - x);
    }
  }

  const place = (cell) =>
    mount(cell, "thresholds", "Explorateur de seuils", (root) => new Explorer(root));

  place(document.querySelector(".tag_explorer"));

  window.thresholdsExplorer = { rates, evaluate, search, mount: place }; // for the tests
})();
