// An explorer of the losses with a margin: two class centres and a sample on the circle.
// The true class is the first. explorer.js, which holds what explorers share, loads this file.
(() => {
  "use strict";

  const { french, number, options, choice, button, write, mount } = courseExplorer;

  // Arithmetic --------------------------------------------------------------------------------
  // Positions are in degrees, as the reader moves the points; angles between them in radians.

  const radians = (degrees) => (degrees * Math.PI) / 180;
  const turn = (degrees) => ((degrees % 360) + 360) % 360;

  // From a centre to the sample, by the shorter way: in ]−180, 180], positive counterclockwise.
  const offset = (sample, centre) => {
    const positive = turn(sample - centre);
    return positive > 180 ? positive - 360 : positive;
  };
  const between = (sample, centre) => radians(Math.abs(offset(sample, centre)));

  const piece = (angle, m) => Math.floor((m * angle) / Math.PI); // of SphereFace's curve
  const sign = (k) => (k % 2 ? -1 : 1);

  // What takes the place of cos θ for the true class, and its derivative with respect to θ.
  const LOSSES = {
    softmax: {
      name: "softmax normalisé (sans marge)",
      target: (angle) => Math.cos(angle),
      slope: (angle) => -Math.sin(angle),
      margins: { min: 0, max: 0, step: 1, usual: 0 },
    },
    sphereface: {
      name: "SphereFace",
      target: (angle, m) => sign(piece(angle, m)) * Math.cos(m * angle) - 2 * piece(angle, m),
      slope: (angle, m) => -sign(piece(angle, m)) * m * Math.sin(m * angle),
      margins: { min: 1, max: 4, step: 1, usual: 4 },
    },
    cosface: {
      name: "CosFace",
      target: (angle, m) => Math.cos(angle) - m,
      slope: (angle) => -Math.sin(angle),
      margins: { min: 0, max: 1, step: 0.05, usual: 0.35 },
    },
    arcface: {
      name: "ArcFace",
      target: (angle, m) =>
        angle + m > Math.PI ? Math.cos(angle) - m * Math.sin(m) : Math.cos(angle + m),
      slope: (angle, m) => (angle + m > Math.PI ? -Math.sin(angle) : -Math.sin(angle + m)),
      margins: { min: 0, max: 1, step: 0.05, usual: 0.5 },
    },
  };

  // The derivative of an angle with respect to the sample's position is 1 or −1. On the centre and
  // opposite to it the angle has no derivative: 0, the mean of both sides.
  const way = (degrees) => (degrees % 180 ? Math.sign(degrees) : 0);

  // Everything about one sample: of each centre [the true one, the other], then of the whole.
  const evaluate = (loss, m, s, sample, centres) => {
    const { target, slope } = LOSSES[loss];
    const angles = centres.map((centre) => between(sample, centre));
    const cosines = angles.map(Math.cos);
    const logits = [s * target(angles[0], m), s * cosines[1]];
    const late = logits[1] - logits[0];
    const probabilities = [1 / (1 + Math.exp(late)), 1 / (1 + Math.exp(-late))];
    const [own, other] = centres.map((centre) => way(offset(sample, centre)));
    return {
      angles,
      cosines,
      logits,
      probabilities,
      loss: Math.max(late, 0) + Math.log1p(Math.exp(-Math.abs(late))), // −ln p₁, never infinite
      gradient: -probabilities[1] * s * (slope(angles[0], m) * own + Math.sin(angles[1]) * other),
    };
  };

  // Arcs [from, to] of the samples that give the larger logit to the true class, whose centre is
  // `own`; each end is a decision boundary. They do not depend on s.
  const STEP = 0.5;
  const zones = (loss, m, own, other) => {
    const wins = (sample) =>
      LOSSES[loss].target(between(sample, own), m) > Math.cos(between(sample, other));
    const edge = (low, high) => {
      const before = wins(low);
      for (let k = 0; k < 40; k++) {
        const middle = (low + high) / 2;
        if (wins(middle) === before) low = middle;
        else high = middle;
      }
      return high;
    };
    const edges = []; // from the other centre, where the true class never wins
    for (let at = other; at < other + 360; at += STEP)
      if (wins(at) !== wins(at + STEP)) edges.push(edge(at, at + STEP));
    return edges.flatMap((from, k) => (k % 2 ? [] : [[from, edges[k + 1]]]));
  };

  // Degrees of the shorter arc between both centres where the true class loses, whichever it is.
  const corridor = (loss, m, centres) => {
    const apart = Math.abs(offset(...centres));
    const held = (own, other) => {
      const toward = offset(other, own) < 0 ? -1 : 1;
      const ends = zones(loss, m, own, other)
        .filter(([from, to]) => turn(own - from) <= to - from)
        .map((arc) => turn(toward * (arc[toward < 0 ? 0 : 1] - own)));
      return ends.length ? Math.min(...ends) : 0;
    };
    return Math.max(0, apart - held(...centres) - held(...[...centres].reverse()));
  };

  // Words -------------------------------------------------------------------------------------

  const START = { loss: "arcface", s: 16, points: [60, 150, 95] };
  const SCALES = [1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
  const POINTS = ["Centre de la classe 1, la vraie", "Centre de la classe 2", "Échantillon x"];
  const SAMPLE = 2;

  const degrees = (value, decimals = 0) => `${number(value, decimals)}°`;
  const three = (value) => (Math.abs(value) < 100 ? number(value, 3, 3) : number(value, 1, 1));
  // A small number is not nought, a high probability is not certain.
  const shown = (value) => (value && Math.abs(value) < 5e-4 ? "≈\u00a00" : three(value));
  const share = (value) =>
    value > 0.9995 ? "≈\u00a01" : value < 5e-4 ? "≈\u00a00" : three(value);

  const marginText = (loss, m) =>
    ({
      softmax: "aucune",
      sphereface: `${m}`,
      cosface: number(m, 2),
      arcface: `${number(m, 2)} rad, soit ${degrees((m * 180) / Math.PI, 1)}`,
    })[loss];

  // The true class's logit, as one writes it by hand.
  const formula = (loss, m, s, angle, logit) => {
    const theta = degrees((angle * 180) / Math.PI);
    const k = piece(angle, m);
    const [letters, figures] = {
      softmax: () => ["s cos θ₁", `cos ${theta}`],
      sphereface: () => [
        "s [(−1)ᵏ cos(m θ₁) − 2k]",
        `[${k % 2 ? "−" : ""}cos(${m} × ${theta}) − ${2 * k}]`,
      ],
      cosface: () => ["s (cos θ₁ − m)", `(cos ${theta} − ${number(m, 2)})`],
      arcface: () =>
        angle + m > Math.PI
          ? ["s (cos θ₁ − m sin m)", `(cos ${theta} − ${number(m * Math.sin(m), 3)})`]
          : ["s cos(θ₁ + m)", `cos(${theta} + ${degrees((m * 180) / Math.PI, 1)})`],
    }[loss]();
    const start = loss === "sphereface" ? `k = ${k} ; ` : "";
    const parts = ["logit 1", letters, `${number(s, 1)} × ${figures}`, three(logit)];
    return start + parts.map((part) => part.replaceAll(" ", "\u00a0")).join(" = ");
  };

  const remark = (loss, m, angle, centres) => {
    if (offset(...centres) === 0)
      return m > LOSSES[loss].margins.min
        ? "Les deux centres sont confondus : avec une marge, la vraie classe perd partout."
        : "Les deux centres sont confondus : les deux logits sont égaux partout.";
    return [
      loss === "arcface" && angle + m > Math.PI
        ? "θ₁ + m dépasse 180° : le cosinus remonterait, cos θ₁ − m sin m prend sa place." : "",
      evaluate(loss, m, 1, centres[0], centres).logits[0] <= Math.cos(between(...centres))
        ? `Les centres sont trop proches pour cette marge : sur son propre centre, la vraie classe
          perd encore.` : "",
    ].join(" ").trim();
  };

  const arcs = (list) =>
    list.map(([from, to]) => `de ${degrees(turn(from), 1)} à ${degrees(turn(to), 1)}`).join(" et ");

  const boundaries = (loss, m, centres, [first, second]) => {
    if (!first.length && !second.length) return "Aucune frontière : aucun arc n’est gagné.";
    const lost = corridor(loss, m, centres);
    const between = lost > 0.05
      ? `Entre les centres, un couloir de ${degrees(lost, 1)} n’est gagné par aucune des deux.`
      : "Entre les centres, les deux arcs se touchent.";
    return `La classe 1, quand elle est la vraie, gagne ${arcs(first)} (arc plein). La classe 2,
      quand elle est la vraie, gagne ${arcs(second)} (arc tireté). ${between}`;
  };

  // The page ----------------------------------------------------------------------------------

  const CENTRE = 212; // of a square of 424 units
  const RADIUS = 140;
  const OUTSIDE = 24; // a centre's handle is beyond the circle, where the sample cannot hide it
  const SHAPES = [
    '<rect class="shape" x="-14" y="-14" width="28" height="28" rx="3"/>',
    '<path class="shape" d="M0-19 19 0 0 19-19 0Z"/>',
    '<circle class="shape" r="15"/>',
  ];

  const at = (angle, radius) => [
    CENTRE + radius * Math.cos(radians(angle)),
    CENTRE - radius * Math.sin(radians(angle)),
  ];
  const xy = (angle, radius) => at(angle, radius).map((value) => value.toFixed(2)).join(" ");

  // The path of an arc; `to` is less than `from` where it is clockwise.
  const arcPath = (from, to, radius) => {
    const large = Math.abs(to - from) > 180 ? 1 : 0;
    const end = `${large} ${to < from ? 1 : 0} ${xy(to, radius)}`;
    return `M${xy(from, radius)} A${radius} ${radius} 0 ${end}`;
  };
  const spoke = (angle, from, to) => `M${xy(angle, from)} L${xy(angle, to)}`;

  const point = (label, k) => `
    <g class="point" role="slider" tabindex="0" data-point="${k}" aria-label="${label}"
      aria-valuemin="0" aria-valuemax="359">
      <circle class="reach" r="24"/><circle class="halo" r="23"/>${SHAPES[k]}
      <text aria-hidden="true">${["1", "2", "x"][k]}</text>
    </g>`;

  const mark = (angle) => {
    const [x, y] = at(angle, RADIUS + 52);
    return `<path class="mark" d="${spoke(angle, RADIUS, RADIUS + 8)}"/>
      <text class="degree" x="${x}" y="${y}">${angle}°</text>`;
  };

  const range = (name, label) =>
    `<label><span>${label} : <b class="${name}"></b></span>
     <input type="range" name="${name}" autocomplete="off"></label>`;

  const line = (k, title) =>
    `<tr><th scope="row">${title}</th>
     ${["angle", "cosine", "logit", "probability"]
       .map((name) => `<td data-name="${name}" data-class="${k}"></td>`).join("")}</tr>`;

  const total = (name, title) =>
    `<tr><th scope="row" colspan="4">${title}</th><td data-name="${name}"></td></tr>`;

  const TEMPLATE = `
    <div class="settings">
      ${choice("loss", "Perte", options(Object.values(LOSSES).map(({ name }) => name),
        Object.keys(LOSSES)))}
      ${range("margin", "Marge m")}
      ${range("scale", "Échelle s")}
    </div>
    <div class="stage">
      <svg viewBox="0 0 ${2 * CENTRE} ${2 * CENTRE}" role="group" aria-label="Cercle, deux centres et un échantillon">
        <defs><marker id="explorer-head" viewBox="0 0 10 10" refX="4" refY="5" markerWidth="4"
          markerHeight="4" orient="auto"><path d="M0 0 10 5 0 10Z"/></marker></defs>
        <g aria-hidden="true">
          <circle class="circle" cx="${CENTRE}" cy="${CENTRE}" r="${RADIUS}"/>
          ${[0, 90, 180, 270].map(mark).join("")}
          <path class="won one"/><path class="won two"/>
          <path class="ends"/>
          <path class="theta one"/><path class="theta two"/>
          <path class="spoke one"/><path class="spoke two"/><path class="spoke sample"/>
          <text class="angle one">θ₁</text><text class="angle two">θ₂</text>
          <path class="descent" marker-end="url(#explorer-head)"/>
        </g>
        ${POINTS.map(point).join("")}
      </svg>
      <div class="results">
        <table>
          <caption class="spoken">Ce que donne l’échantillon x</caption>
          <thead><tr><th scope="col">classe</th><th scope="col">angle θ</th>
            <th scope="col">cos θ</th><th scope="col">logit</th><th scope="col">proba.</th></tr>
          </thead>
          <tbody>${line(0, "1 (vraie)")}${line(1, "2")}</tbody>
          <tfoot>
            ${total("loss", "Perte, −ln p₁")}
            ${total("gradient", "Gradient de la perte selon la position de x, par radian")}
            ${total("plain", "Sans marge, p₁ serait de")}
          </tfoot>
        </table>
        <p class="formula"></p>
        <p class="descent"></p>
        <p class="boundaries"></p>
        <p class="remark"></p>
      </div>
    </div>
    <p class="hint" id="explorer-hint">Faites glisser le carré 1, le losange 2 et le rond x. Au
      clavier : la touche Tab mène à chacun, les flèches le tournent de 1°, Page précédente et Page
      suivante de 15°, Début et Fin l’amènent à 0° et à 359°.</p>
    <div class="buttons"><div>${button("reset", "Réinitialiser")}</div></div>
    <p class="spoken" role="status"></p>`;

  const QUIET = 800; // milliseconds without a change before the summary is spoken

  class Explorer {
    constructor(root) {
      this.root = root;
      root.innerHTML = french(TEMPLATE);
      root.addEventListener("input", (event) => this.change(event.target));
      this.find("[data-action=reset]").addEventListener("click", () => this.reset());
      this.svg = this.find("svg");
      this.handles = [...root.querySelectorAll(".point")];
      this.handles.forEach((handle, k) => {
        handle.setAttribute("aria-describedby", "explorer-hint");
        handle.addEventListener("keydown", (event) => this.key(event, k));
        // Browsers do not read touch-action inside an SVG: without this, a finger scrolls the page.
        handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
        handle.addEventListener("pointerdown", (event) => this.hold(event, k));
        handle.addEventListener("pointermove", (event) => this.drag(event, k));
      });
      this.find("[name=scale]").max = SCALES.length - 1;
      this.start();
    }

    find(selector) {
      return this.root.querySelector(selector);
    }

    write(selector, text) {
      write(this.find(selector), text);
    }

    // Settings

    start() {
      this.points = [...START.points];
      this.find("[name=loss]").value = START.loss;
      this.find("[name=scale]").value = SCALES.indexOf(START.s);
      this.chooseLoss();
    }

    reset() {
      this.start();
      this.announce();
    }

    change(field) {
      if (field.name === "loss") this.chooseLoss();
      else this.update();
      this.announce();
    }

    // Each loss has its own margins, and opens on the usual one.
    chooseLoss() {
      const { usual, ...limits } = LOSSES[this.find("[name=loss]").value].margins;
      const field = this.find("[name=margin]");
      Object.assign(field, limits, { value: usual, disabled: limits.min === limits.max });
      this.update();
    }

    // Everything that depends on the settings and on the points

    update() {
      const loss = this.find("[name=loss]").value;
      const m = Number(this.find("[name=margin]").value);
      const s = SCALES[this.find("[name=scale]").value];
      const centres = this.points.slice(0, SAMPLE);
      const sample = this.points[SAMPLE];
      const found = evaluate(loss, m, s, sample, centres);
      const won = [zones(loss, m, ...centres), zones(loss, m, ...[...centres].reverse())];
      this.writeSetting("margin", marginText(loss, m));
      this.writeSetting("scale", number(s, 1));
      this.writeResults(found, evaluate("softmax", 0, s, sample, centres));
      this.write(".formula", formula(loss, m, s, found.angles[0], found.logits[0]));
      this.write(".boundaries", boundaries(loss, m, centres, won));
      this.write(".remark", remark(loss, m, found.angles[0], centres));
      this.write("p.descent", this.course(found.gradient, centres[0]));
      this.drawCircle(won);
      this.drawAngles();
      this.drawDescent(found.gradient, s);
      this.handles.forEach((_, k) => this.place(k));
      this.summary = `Probabilité de la vraie classe : ${share(found.probabilities[0])}. Perte :
        ${shown(found.loss)}. Gradient : ${shown(found.gradient)}.`;
    }

    writeSetting(name, text) {
      this.write(`.settings .${name}`, text);
      this.find(`[name=${name}]`).setAttribute("aria-valuetext", french(text));
    }

    writeResults({ angles, cosines, logits, probabilities, loss, gradient }, plain) {
      const put = (name, value, text, k) => {
        const ofClass = k === undefined ? "" : `[data-class="${k}"]`;
        const cell = this.find(`td[data-name=${name}]${ofClass}`);
        cell.dataset.value = value;
        write(cell, text);
      };
      for (const k of [0, 1]) {
        put("angle", angles[k], degrees((angles[k] * 180) / Math.PI), k);
        put("cosine", cosines[k], three(cosines[k]), k);
        put("logit", logits[k], three(logits[k]), k);
        put("probability", probabilities[k], share(probabilities[k]), k);
      }
      put("loss", loss, shown(loss));
      put("gradient", gradient, shown(gradient));
      put("plain", plain.probabilities[0], share(plain.probabilities[0]));
    }

    // Where a step of gradient descent takes the sample.
    course(gradient, centre) {
      if (Math.abs(gradient) < 5e-4) return "Le gradient est presque nul : x ne bouge plus.";
      const here = offset(this.points[SAMPLE], centre);
      const nearer = here % 180 ? Math.sign(gradient) === Math.sign(here) : here !== 0;
      return `La descente de gradient (flèche) fait tourner x dans le sens
        ${gradient < 0 ? "direct" : "des aiguilles d’une montre"} : il
        ${nearer ? "se rapproche" : "s’éloigne"} du centre 1.`;
    }

    // The summary waits for the reader to stop: a slider speaks its own value at each step.
    announce() {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.write("[role=status]", this.summary), QUIET);
    }

    // The circle

    draw(selector, path) {
      this.find(`svg ${selector}`).setAttribute("d", path);
    }

    drawCircle(won) {
      const [inner, outer] = [RADIUS - 5, RADIUS + 5];
      won.forEach((list, k) => {
        const radius = k ? inner : outer;
        const path = list.map(([from, to]) => arcPath(from, to, radius)).join(" ");
        this.draw(`.won.${["one", "two"][k]}`, path);
      });
      const ends = won.flat(2).map((angle) => spoke(angle, RADIUS - 12, RADIUS + 12));
      this.draw(".ends", ends.join(" "));
    }

    drawAngles() {
      const [first, second, sample] = this.points;
      [first, second].forEach((centre, k) => {
        const name = ["one", "two"][k];
        const radius = [44, 68][k];
        const to = centre + offset(sample, centre);
        this.draw(`.theta.${name}`, arcPath(centre, to, radius));
        this.draw(`.spoke.${name}`, spoke(centre, 0, RADIUS + OUTSIDE));
        const [x, y] = at((centre + to) / 2, radius + 13);
        const text = this.find(`text.angle.${name}`);
        text.setAttribute("x", x);
        text.setAttribute("y", y);
        text.classList.toggle("narrow", Math.abs(to - centre) < 15);
      });
      this.draw(".spoke.sample", spoke(sample, 0, RADIUS));
    }

    // Its length says how strong the gradient is, between nothing and its largest value, about s.
    drawDescent(gradient, s) {
      const length = 12 + 28 * Math.min(1, Math.abs(gradient) / s);
      const from = this.points[SAMPLE] - 9 * Math.sign(gradient);
      const to = from - length * Math.sign(gradient);
      this.draw(".descent", Math.abs(gradient) < 5e-4 ? "" : arcPath(from, to, RADIUS - 34));
    }

    place(k) {
      const [first, second] = this.points;
      const close = k === 1 && Math.abs(offset(first, second)) < 16;
      const radius = k === SAMPLE ? RADIUS : RADIUS + OUTSIDE + (close ? 32 : 0);
      const [x, y] = at(this.points[k], radius);
      this.handles[k].setAttribute("transform", `translate(${x} ${y})`);
      this.handles[k].setAttribute("aria-valuenow", this.points[k]);
      this.handles[k].setAttribute("aria-valuetext", degrees(this.points[k]));
    }

    // Moving a point: whole degrees only

    move(k, angle) {
      this.points[k] = turn(Math.round(angle));
      this.update();
      this.announce();
    }

    key(event, k) {
      const angle = this.points[k];
      const target = {
        ArrowRight: angle + 1,
        ArrowUp: angle + 1,
        ArrowLeft: angle - 1,
        ArrowDown: angle - 1,
        PageUp: angle + 15,
        PageDown: angle - 15,
        Home: 0,
        End: 359,
      }[event.key];
      if (target === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault(); // the page does not scroll
      this.move(k, target);
    }

    hold(event, k) {
      if (event.button) return;
      event.preventDefault(); // no selection of text
      this.handles[k].focus({ preventScroll: true });
      this.handles[k].setPointerCapture(event.pointerId);
    }

    drag(event, k) {
      if (!this.handles[k].hasPointerCapture(event.pointerId)) return;
      const { left, top, width, height } = this.svg.getBoundingClientRect();
      const [x, y] = [event.clientX - left - width / 2, top + height / 2 - event.clientY];
      this.move(k, (Math.atan2(y, x) * 180) / Math.PI);
    }
  }

  const place = (cell) =>
    mount(cell, "arcface", "Explorateur des pertes à marge", (root) => new Explorer(root));

  place(document.querySelector(".tag_explorer"));

  window.arcfaceExplorer = { evaluate, zones, corridor, mount: place }; // for the tests
})();
