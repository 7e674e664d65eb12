// The threshold: counts at an edge, every figure that follows from them, and the page that shows it.
const live = (() => {
  const source = document.getElementById("live");
  if (!source) return null;
  const data = JSON.parse(source.textContent);
  const SMALL = 0.02;
  const FIFTHS = 0.8;

  // rows at or below each edge, by group and label
  const below = data.counts.map((labels) => labels.map((bins) => {
    let sum = 0;
    return bins.map((n) => (sum += n));
  }));

  function countsAt(edge) {
    return below.map((labels) => labels.map((sums) => {
      const negative = sums[edge];
      return [negative, sums[sums.length - 1] - negative];
    }));
  }

  function categories(counts) {
    const found = {};
    const rows = counts.map((cells) => cells[0][0] + cells[0][1] + cells[1][0] + cells[1][1]);
    const selected = counts.map((cells) => cells[0][1] + cells[1][1]);
    const total = rows.reduce((sum, n) => sum + n, 0);
    const add = (groups, values) => groups.reduce((sum, g) => sum + values[g], 0);
    data.categories.forEach((table, t) => {
      const lines = table.groups.map((groups) => {
        const n = add(groups, rows);
        const hits = add(groups, selected);
        return { selected: hits, n, rate: formulas.share(hits, n), small: n < SMALL * total };
      });
      const able = lines.filter((l) => !l.small && l.rate > 0);
      const most = Math.max(...able.map((l) => l.rate));
      const top = able.find((l) => l.rate === most);
      lines.forEach((line, c) => {
        const known = top !== undefined && line.n > 0;
        line.ratio = known ? line.rate / top.rate : NaN;
        line.limits = line === top ? [1, 1] : known
          ? formulas.ratio([line.selected, line.n], [top.selected, top.n], table.z) : [NaN, NaN];
        found[`i.${t}.${c}`] = line;
      });
    });
    return found;
  }

  // by key: [value, low, high], or a category's figures
  function figures(edge) {
    const counts = countsAt(edge);
    const found = categories(counts);
    for (const each of data.measures) found[`m.${each.name}`] = formulas.measure(each, counts);
    for (const each of data.performances) {
      found[`m.${each.name}`] = formulas.performance(each, counts, data.z);
    }
    counts.forEach((cells, g) => {
      for (const rate of data.rates) {
        found[`g.${g}.${rate.name}`] = formulas.rateOf(rate, cells, data.z);
      }
    });
    return found;
  }

  // as the page was written: halves away from zero, a true minus, a dash for what is not there
  function text(value, digits = 3) {
    if (Number.isNaN(value)) return "\u2013";
    if (!Number.isFinite(value)) return (value < 0 ? "\u2212" : "") + "\u221e";
    const shown = value.toFixed(digits);
    return (/^-[0.]*$/.test(shown) ? shown.slice(1) : shown).replace("-", "\u2212");
  }

  const span = (low, high, digits = 3) =>
    Number.isNaN(low) || Number.isNaN(high)
      ? "\u2013" : `${text(low, digits)} to ${text(high, digits)}`;

  function place(svg, [value, low, high]) {
    const [from, to] = [Number(svg.dataset.low), Number(svg.dataset.high)];
    const at = (x) => `${Math.min(Math.max((100 * (x - from)) / (to - from), 0), 100)}%`;
    const seen = !Number.isNaN(value + low + high) || high === Infinity;
    const [line, dot] = [svg.querySelector(".ci"), svg.querySelector(".dot")];
    line.style.visibility = dot.style.visibility = seen ? "visible" : "hidden";
    if (!seen) return;
    line.setAttribute("x1", at(low));
    line.setAttribute("x2", at(high));
    dot.setAttribute("cx", at(value));
  }

  const PARTS = {
    value: (node, f) => { node.textContent = text(f[0]); },
    interval: (node, f) => { node.textContent = span(f[1], f[2]); },
    strip: place,
    selected: (node, f) => { node.textContent = f.selected.toLocaleString("en-US"); },
    rate: (node, f) => { node.textContent = text(f.rate); },
    ratio: (node, f) => { node.textContent = text(f.ratio, 2); },
    limits: (node, f) => { node.textContent = span(...f.limits, 2); },
    row: (node, f) => { node.classList.toggle("low", !f.small && f.ratio < FIFTHS); },
  };

  const nodes = [...document.querySelectorAll("[data-live]")];
  const slider = document.getElementById("threshold");
  const shown = document.getElementById("shown");
  const said = document.getElementById("said");
  const reset = document.getElementById("reset");
  const original = nodes.map((node) => node.cloneNode(true));
  let current = data.start;
  let waiting = 0;

  const name = (edge) => String(Number(data.edges[edge].toPrecision(12))).replace("-", "\u2212");

  function nearest(value) {
    let best = 0;
    data.edges.forEach((edge, i) => {
      if (Math.abs(edge - value) < Math.abs(data.edges[best] - value)) best = i;
    });
    return best;
  }

  function say(found) {
    const rates = data.groups.map((group, g) => [group, found[`g.${g}.selection_rate`][0]]);
    const sure = rates.filter(([, rate]) => !Number.isNaN(rate)).sort((a, b) => a[1] - b[1]);
    const [least, most] = [sure[0], sure[sure.length - 1]];
    said.textContent = `Selected: ${least[0]} ${text(least[1])}, ${most[0]} ${text(most[1])}. `
      + `Statistical parity difference ${text(found["m.spd"][0])}, `
      + `accuracy ${text(found["m.accuracy"][0])}, `
      + `balanced accuracy ${text(found["m.balanced_accuracy"][0])}.`;
  }

  function cut(edge) {
    const x = (1000 * (data.edges[edge] - data.low)) / (data.high - data.low);
    document.querySelectorAll("rect.cut").forEach((node) => node.setAttribute("x", x));
    document.querySelectorAll("line.threshold").forEach((node) => {
      node.setAttribute("x1", x);
      node.setAttribute("x2", x);
    });
  }

  function show(edge) {
    current = edge;
    const found = figures(edge);
    for (const node of nodes) PARTS[node.dataset.part](node, found[node.dataset.live]);
    cut(edge);
    shown.textContent = name(edge);
    slider.setAttribute("aria-valuetext", name(edge));
    reset.disabled = data.audited !== null && edge === data.start;
    clearTimeout(waiting); // a screen reader hears where it stops, not every step
    waiting = setTimeout(() => say(found), 250);
  }

  // decisions that no threshold made come back as they were written
  function restore() {
    slider.value = data.edges[data.start];
    show(data.start);
    if (data.audited !== null) return;
    nodes.forEach((node, i) => {
      const was = original[i];
      if (node.dataset.part === "row") node.className = was.className;
      else node.innerHTML = was.innerHTML;
    });
    shown.textContent = "as audited";
    reset.disabled = true;
    clearTimeout(waiting);
    said.textContent = "The audited decisions.";
  }

  const KEYS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };

  slider.addEventListener("input", () => show(nearest(Number(slider.value))));
  slider.addEventListener("keydown", (event) => {
    const last = data.edges.length - 1;
    let edge = null;
    if (event.key in KEYS) edge = Math.min(Math.max(current + KEYS[event.key], 0), last);
    if (event.key === "Home") edge = 0;
    if (event.key === "End") edge = last;
    if (edge === null || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    slider.value = data.edges[edge];
    show(edge);
  });
  reset.addEventListener("click", () => { restore(); slider.focus(); });
  document.getElementById("control").hidden = false;
  slider.value = data.edges[data.start];
  if (data.audited === null) restore();
  else say(figures(data.start));

  return { figures, countsAt, edges: data.edges, show };
})();
