"use strict";
// The measures and their intervals, from counts. `counts` is one [[tn, fp], [fn, tp]] per group.
const formulas = (() => {
  const share = (hits, base) => (base > 0 ? hits / base : NaN);
  const known = (values) => values.filter((value) => !Number.isNaN(value));
  // not Math.max(...values): pairs of hundreds of groups are too many arguments
  const top = (values) => values.reduce((a, b) => (b > a ? b : a), -Infinity);
  const bottom = (values) => values.reduce((a, b) => (b < a ? b : a), Infinity);
  const largest = (values) => (known(values).length ? top(known(values)) : NaN);
  const smallest = (values) => -largest(values.map((value) => -value));
  const strict = (pick, values) => (values.some(Number.isNaN) ? NaN : pick(...values));

  function parts(rate, cells) {
    let hits = 0;
    let base = 0;
    for (const y of [0, 1]) {
      for (const decision of [0, 1]) {
        if (rate.hits[y][decision]) hits += cells[y][decision];
        if (rate.base[y][decision]) base += cells[y][decision];
      }
    }
    return [hits, base];
  }

  function wilson(hits, base, z) {
    if (!(base > 0)) return [NaN, NaN];
    const rate = hits / base;
    const centre = (rate + (z * z) / (2 * base)) / (1 + (z * z) / base);
    const spread = Math.sqrt((rate * (1 - rate)) / base + (z * z) / (4 * base * base));
    const half = (z / (1 + (z * z) / base)) * spread;
    return [hits === 0 ? 0 : centre - half, hits === base ? 1 : centre + half];
  }

  // terms: [weight, hits, base] of independent rates
  function linear(terms, z) {
    let value = 0;
    let below = 0;
    let above = 0;
    for (const [weight, hits, base] of terms) {
      const rate = share(hits, base);
      const [low, high] = wilson(hits, base, z);
      const [down, up] = weight > 0 ? [rate - low, high - rate] : [high - rate, rate - low];
      value += weight * rate;
      below += (weight * down) ** 2;
      above += (weight * up) ** 2;
    }
    return [value, value - Math.sqrt(below), value + Math.sqrt(above)];
  }

  function ratio(over, under, z) {
    const [a, b] = [share(...over), share(...under)];
    const [la, ua] = wilson(...over, z);
    const [lb, ub] = wilson(...under, z);
    if (Number.isNaN(a + b)) return [NaN, NaN];
    const product = a * b;
    const root = (one, other) =>
      Math.sqrt(Math.max(product ** 2 - one * other * (2 * a - one) * (2 * b - other), 0));
    const low = 2 * b - ub > 0 ? (product - root(la, ub)) / (ub * (2 * b - ub)) : share(la, ub);
    const high = lb > 0 ? (product + root(ua, lb)) / (lb * (2 * b - lb)) : Infinity;
    return [Math.max(low, 0), high];
  }

  function largestAbsolute(limits) {
    const sure = limits.filter(([low, high]) => !Number.isNaN(low) && !Number.isNaN(high));
    if (!sure.length) return [NaN, NaN];
    const nearest = sure.map(([low, high]) => Math.max(low, -high, 0));
    const farthest = sure.map(([low, high]) => Math.max(Math.abs(low), Math.abs(high)));
    return [top(nearest), top(farthest)];
  }

  function signed(measure, counts) {
    const last = counts.length - 1;
    const weight = 1 / measure.rates.length;
    const rates = counts.map((cells) => {
      const values = measure.rates.map((rate) => share(...parts(rate, cells)));
      return values.reduce((sum, value) => sum + value) / values.length;
    });
    const gaps = rates.slice(0, -1).map((rate) => rate - rates[last]);
    const limits = counts.slice(0, -1).map((cells) => {
      const terms = measure.rates.flatMap((rate) => [
        [weight, ...parts(rate, cells)],
        [-weight, ...parts(rate, counts[last])],
      ]);
      return linear(terms, measure.z).slice(1);
    });
    if (gaps.length === 1) return [gaps[0], ...limits[0]];
    return [largest(gaps.map(Math.abs)), ...largestAbsolute(limits)];
  }

  function pairsOf(counts) {
    return counts.flatMap((_, i) => counts.slice(i + 1).map((__, j) => [i, i + 1 + j]));
  }

  function largestGap(measure, counts) {
    const gaps = [];
    let limits = [];
    for (const rate of measure.rates) {
      const each = counts.map((cells) => parts(rate, cells));
      const values = each.map(([hits, base]) => share(hits, base));
      gaps.push(known(values).length >= 2 ? largest(values) - smallest(values) : NaN);
      const here = pairsOf(counts).map(([i, j]) =>
        linear([[1, ...each[i]], [-1, ...each[j]]], measure.z).slice(1));
      if (here.every(([low]) => Number.isNaN(low))) return [strict(Math.max, gaps), NaN, NaN];
      limits = limits.concat(here);
    }
    return [strict(Math.max, gaps), ...largestAbsolute(limits)];
  }

  function rateRatio(measure, counts) {
    const worst = measure.kind === "worst ratio";
    const last = counts.length - 1;
    const both = worst ? pairsOf(counts).flatMap(([i, j]) => [[i, j], [j, i]])
      : counts.slice(0, -1).map((_, i) => [i, last]);
    const values = [];
    let limits = [];
    for (const rate of measure.rates) {
      const each = counts.map((cells) => parts(rate, cells));
      const rates = each.map(([hits, base]) => share(hits, base));
      if (worst) {
        const most = largest(rates);
        values.push(known(rates).length >= 2 && most > 0 ? smallest(rates) / most : NaN);
      } else {
        const base = rates[last] > 0 ? rates[last] : NaN;
        values.push(smallest(rates.slice(0, -1).map((value) => value / base)));
      }
      const here = both.map(([i, j]) => ratio(each[i], each[j], measure.z));
      if (here.every(([low]) => Number.isNaN(low))) return [strict(Math.min, values), NaN, NaN];
      limits = limits.concat(here);
    }
    const sure = limits.filter(([low]) => !Number.isNaN(low));
    const cap = worst ? 1 : Infinity;
    const low = Math.min(bottom(sure.map((limit) => limit[0])), cap);
    const high = Math.min(bottom(sure.map((limit) => limit[1])), cap);
    return [strict(Math.min, values), low, high];
  }

  const KINDS = { signed, largest: largestGap, ratio: rateRatio, "worst ratio": rateRatio };

  // [value, low, high]; no interval without a value, as the library has it
  function measure(each, counts) {
    const found = KINDS[each.kind](each, counts);
    return Number.isNaN(found[0]) ? [NaN, NaN, NaN] : found;
  }

  function performance(each, counts, z) {
    const pooled = [0, 1].map((y) => [0, 1].map((decision) =>
      counts.reduce((sum, cells) => sum + cells[y][decision], 0)));
    const terms = each.rates.map((rate) => [1 / each.rates.length, ...parts(rate, pooled)]);
    return linear(terms, z);
  }

  function rateOf(rate, cells, z) {
    const [hits, base] = parts(rate, cells);
    return [share(hits, base), ...wilson(hits, base, z)];
  }

  return { measure, performance, rateOf, ratio, share };
})();
