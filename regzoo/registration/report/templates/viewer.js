"use strict";
/* The viewer of report.html: planes through the fixed image and what lies on its grid, on plain canvases.

Voxel indices are those of the page's grid; positions are RAS millimetres. What it can do from a script or the console:

  await regzoo.ready           until all is unpacked and drawn
  regzoo.go([x, y, z])         moves the cross-hair to the voxel nearest to a position
  regzoo.position()            where it is, [x, y, z]
  regzoo.values()              what is there: fixed, moving, labels, displacement, volume, error
  regzoo.state()               all settings, a copy
  regzoo.set({mode: "fade", mix: 1})   changes settings and draws
  regzoo.planes()              of each plane its name, the letters at its sides, its canvas, the cross-hair's pixel
*/
window.regzoo = (() => {
  const page = JSON.parse(document.getElementById("layers").textContent);
  const find = (id) => document.getElementById(id);
  const GOLD = "#ffd24a", CYAN = "#35d0e6", ORANGE = "#ff7a00";
  const VOLUME = [[230, 97, 1], [253, 184, 99], [247, 247, 247], [178, 171, 210], [94, 60, 153]];
  const LENGTH = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  const DIFFERENCE = [[5, 48, 97], [67, 147, 195], [247, 247, 247], [214, 96, 77], [103, 0, 31]];
  const shape = page.grid.shape, spacing = page.grid.spacing, steps = [1, shape[0], shape[0] * shape[1]];
  const initial = () => ({
    at: [...page.at], mode: "fade", mix: 0.5, moving: page.images.after ? "after" : "before", square: 20, edges: "moving",
    labels: page.labels ? "outlines" : "off", landmarks: true, grid: false, map: "none", opacity: 0.6, zoom: 1, centre: [...page.at],
    window: { fixed: [...page.window.fixed], moving: [...page.window.moving] },
  });
  let state = initial(), active = 0;

  // ---- what was packed

  async function unpack(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
  }

  async function load() {
    const bytes = async (layer) => { layer.voxels = new Uint8Array(await unpack(layer.data)); delete layer.data; };
    await Promise.all([...Object.values(page.images), ...Object.values(page.maps || {})].map(bytes));
    const Labels = page.labels && page.labels.bytes === 1 ? Uint8Array : Uint16Array;
    for (const name of ["fixed", "before", "after"]) {
      if (page.labels && page.labels[name]) page.labels[name] = new Labels(await unpack(page.labels[name]));
    }
    if (page.field) page.field.voxels = new Int16Array(await unpack(page.field.data));
    if (page.field) page.field.fromGrid = product(page.field.inverse, page.grid.affine);
  }

  // ---- geometry

  const product = (a, b) => a.map((row) => b[0].map((_, c) => row.reduce((sum, value, k) => sum + value * b[k][c], 0)));
  const place = (m, p) => [0, 1, 2].map((r) => m[r][0] * p[0] + m[r][1] * p[1] + m[r][2] * p[2] + m[r][3]);
  const turn = (m, p) => [0, 1, 2].map((r) => m[r][0] * p[0] + m[r][1] * p[1] + m[r][2] * p[2]);
  const position = () => place(page.grid.affine, state.at);
  const within = (index) => index.map((value, axis) => Math.min(Math.max(Math.round(value), 0), shape[axis] - 1));
  const offset = (index) => index[0] + steps[1] * index[1] + steps[2] * index[2];

  /* How far the result moves a voxel beyond the start, RAS mm: linear between the places of the field. */
  function displacement(index) {
    const { fromGrid, shape: size, voxels, unit } = page.field, p = place(fromGrid, index), found = [0, 0, 0];
    const low = p.map((value, axis) => Math.min(Math.max(Math.floor(value), 0), Math.max(size[axis] - 2, 0)));
    const part = p.map((value, axis) => Math.min(Math.max(value - low[axis], 0), size[axis] > 1 ? 1 : 0));
    const count = size[0] * size[1] * size[2];
    for (let corner = 0; corner < 8; corner++) {
      let weight = 1, where = 0, step = 1;
      for (let axis = 0; axis < 3; axis++) {
        const up = (corner >> axis) & 1;
        weight *= up ? part[axis] : 1 - part[axis];
        where += (low[axis] + up) * step;
        step *= size[axis];
      }
      if (weight) for (let axis = 0; axis < 3; axis++) found[axis] += weight * unit * voxels[where + axis * count];
    }
    return found;
  }

  /* A plane's columns run along the grid's axis `across`, its rows, from the top, along `up`. */
  function planeOf(view, number) {
    const { axis, across, up } = view, wide = shape[across], high = shape[up];
    const plane = { ...view, number, wide, high, width: wide * spacing[across], height: high * spacing[up] };
    plane.index = (column, row) => {
      const index = [...state.at];
      index[across] = view.flip_across ? wide - 1 - column : column;
      index[up] = view.flip_up ? row : high - 1 - row;
      return index;
    };
    plane.column = (index) => (view.flip_across ? wide - 1 - index[across] : index[across]);
    plane.row = (index) => (view.flip_up ? index[up] : high - 1 - index[up]);
    plane.each = (visit) => {
      const first = state.at[axis] * steps[axis];
      for (let row = 0, n = 0; row < high; row++) {
        const start = first + steps[up] * (view.flip_up ? row : high - 1 - row);
        for (let column = 0; column < wide; column++, n++) {
          visit(n, start + steps[across] * (view.flip_across ? wide - 1 - column : column), column, row);
        }
      }
    };
    plane.canvas = document.querySelectorAll(".plane canvas")[number];
    plane.pixels = new ImageData(wide, high);
    plane.sheet = Object.assign(document.createElement("canvas"), { width: wide, height: high });
    return plane;
  }

  // ---- colours

  const mixed = (stops, share) => {
    const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    return stops[low].map((value, c) => value + (at - low) * (stops[low + 1][c] - value));
  };
  const table = (stops) => Array.from({ length: 256 }, (_, n) => mixed(stops, n / 255));
  const differences = table(DIFFERENCE), lengths = table(LENGTH);
  const gradient = (stops) => `linear-gradient(to right, ${stops.map((c) => `rgb(${c})`).join(", ")})`;
  const labelColour = (number) => `hsl(${(number * 137.5) % 360} 75% ${number % 2 ? 58 : 45}%)`;
  const labelColours = (page.labels ? page.labels.values : []).map((_, n) => {
    const one = document.createElement("canvas").getContext("2d");
    one.fillStyle = labelColour(n);
    return [1, 3, 5].map((from) => parseInt(one.fillStyle.slice(from, from + 2), 16));
  });
  /* The grey, 0 to 255, of each of an image's levels. */
  const greys = (image, [low, high]) =>
    Float32Array.from(image.levels, (value) => Math.min(Math.max((255 * (value - low)) / Math.max(high - low, 1e-9), 0), 255));

  const MAPS = {
    error: page.maps && page.maps.error && {
      colour: (_, where) => lengths[page.maps.error.voxels[where]],
      legend: () => ["Expected error:", "0 mm", LENGTH, `${page.maps.error.levels[255].toFixed(1)} mm or more`, ""],
    },
    volume: page.maps && page.maps.volume && {
      colour: (_, where) => {
        const level = page.maps.volume.voxels[where];
        return level ? mixed(VOLUME, (Math.log2(page.maps.volume.levels[level]) + 1) / 2) : [220, 0, 0];
      },
      legend: () => ["Volume in the moving image, as a multiple of that in the fixed image:", "half", VOLUME, "twice",
        "red: tissue would be turned inside out (a fold)"],
    },
    displacement: page.field && {
      colour: (index) => lengths[Math.round((255 * Math.hypot(...displacement(index))) / Math.max(page.field.longest, 1e-9))] || lengths[255],
      legend: () => ["Displacement beyond the start:", "0 mm", LENGTH, `${page.field.longest.toFixed(1)} mm`, ""],
    },
  };

  // ---- drawing

  function base(plane) {
    const fixed = page.images.fixed, moving = page.images[state.moving], out = plane.pixels.data;
    const f = greys(fixed, state.window.fixed), m = greys(moving, state.window.moving), { mode, mix } = state;
    const wide = state.square / spacing[plane.across], high = state.square / spacing[plane.up];
    plane.each((n, where, column, row) => {
      const one = f[fixed.voxels[where]], other = m[moving.voxels[where]];
      let grey = (1 - mix) * one + mix * other;
      if (mode === "checkerboard") grey = (Math.floor(column / wide) + Math.floor(row / high)) % 2 ? other : one;
      if (mode === "edges") grey = state.edges === "moving" ? one : other;
      const colour = mode === "difference" ? differences[Math.round((255 + other - one) / 2)] : null;
      for (let c = 0; c < 3; c++) out[4 * n + c] = colour ? colour[c] : grey;
      out[4 * n + 3] = 255;
    });
  }

  /* Where one image's grey changes most: Sobel's gradient, thinned to its ridge; 1 there. */
  function ridges(plane) {
    const name = state.edges === "moving" ? state.moving : "fixed", image = page.images[name];
    const shade = greys(image, state.window[state.edges]), { wide, high } = plane, count = wide * high;
    const [grey, across, down, size] = Array.from({ length: 4 }, () => new Float32Array(count));
    plane.each((n, where) => { grey[n] = shade[image.voxels[where]]; });
    const sum = (a, b, c) => grey[a] + 2 * grey[b] + grey[c];
    for (let row = 1; row < high - 1; row++) {
      for (let n = row * wide + 1; n < (row + 1) * wide - 1; n++) {
        across[n] = sum(n - wide + 1, n + 1, n + wide + 1) - sum(n - wide - 1, n - 1, n + wide - 1);
        down[n] = sum(n + wide - 1, n + wide, n + wide + 1) - sum(n - wide - 1, n - wide, n - wide + 1);
        size[n] = Math.hypot(across[n], down[n]);
      }
    }
    const least = 0.3 * Float32Array.from(size).sort()[Math.floor(0.98 * (count - 1))];
    return size.map((value, n) => {
      const beside = Math.abs(across[n]) > Math.abs(down[n]) ? 1 : wide;
      return value > least && value >= size[n - beside] && value > size[n + beside] ? 1 : 0;
    });
  }

  /* Lines from each place of an edge to its neighbours on it. */
  function drawEdges(plane, context) {
    const ridge = ridges(plane), { wide } = plane;
    context.beginPath();
    ridge.forEach((on, n) => {
      const column = n % wide, row = (n - column) / wide;
      if (!on) return;
      const beside = ridge[n + 1], below = ridge[n + wide];
      if (beside) line(plane, context, column, row, column + 1, row);
      if (below) line(plane, context, column, row, column, row + 1);
      if (ridge[n + wide + 1] && !beside && !below) line(plane, context, column, row, column + 1, row + 1);
      if (ridge[n + wide - 1] && !ridge[n - 1] && !below) line(plane, context, column, row, column - 1, row + 1);
    });
    stroke(context, ORANGE, 1.6);
  }

  /* Lays colours over what is drawn already. */
  function cover(plane, colourAt, opacity) {
    const out = plane.pixels.data;
    plane.each((n, where, column, row) => {
      const colour = colourAt(where, column, row);
      if (colour) for (let c = 0; c < 3; c++) out[4 * n + c] += opacity * (colour[c] - out[4 * n + c]);
    });
  }

  function draw(plane) {
    const { canvas } = plane, ratio = window.devicePixelRatio || 1, context = canvas.getContext("2d");
    base(plane);
    const map = MAPS[state.map];
    if (map) cover(plane, (where, column, row) => map.colour(plane.index(column, row), where), state.opacity);
    const filled = page.labels && { fixed: page.labels.fixed, moving: movingLabels() }[state.labels];
    if (filled) cover(plane, (where) => filled[where] && labelColours[filled[where] - 1], state.opacity);
    plane.sheet.getContext("2d").putImageData(plane.pixels, 0, 0);
    plane.scale = scale * ratio * state.zoom;
    plane.middle = [
      inside(plane.width, canvas.width / plane.scale, (plane.column(state.centre) + 0.5) * spacing[plane.across]),
      inside(plane.height, canvas.height / plane.scale, (plane.row(state.centre) + 0.5) * spacing[plane.up]),
    ];
    context.imageSmoothingEnabled = !filled;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const [x, y] = onPage(plane, -0.5, -0.5);
    context.drawImage(plane.sheet, x, y, plane.width * plane.scale, plane.height * plane.scale);
    if (state.mode === "edges") drawEdges(plane, context);
    if (state.grid && page.field) drawGrid(plane, context);
    if (page.labels && state.labels === "outlines") drawOutlines(plane, context);
    if (state.landmarks) drawLandmarks(plane, context);
    drawCross(plane, context);
    drawRuler(plane, context, ratio);
  }

  /* The middle, in mm, of what is seen of a whole: near a place, but not beyond the ends. */
  const inside = (whole, seen, near) => (seen >= whole ? whole / 2 : Math.min(Math.max(near, seen / 2), whole - seen / 2));

  /* The pixel of a column and a row, whole numbers being the middles of voxels. */
  const onPage = (plane, column, row) => [
    ((column + 0.5) * spacing[plane.across] - plane.middle[0]) * plane.scale + plane.canvas.width / 2,
    ((row + 0.5) * spacing[plane.up] - plane.middle[1]) * plane.scale + plane.canvas.height / 2,
  ];

  /* Without a moved image, labels are those that were predicted on the fixed one. */
  const movingLabels = () => page.labels[page.images.after ? state.moving : "after"];

  function drawOutlines(plane, context) {
    for (const [map, colour] of [[page.labels.fixed, GOLD], [movingLabels(), CYAN]]) {
      if (!map) continue;
      const values = new Uint16Array(plane.wide * plane.high);
      plane.each((n, where) => { values[n] = map[where]; });
      context.beginPath();
      for (let row = 0; row < plane.high; row++) {
        for (let column = 0; column < plane.wide; column++) {
          const n = row * plane.wide + column;
          if (column && values[n] !== values[n - 1]) line(plane, context, column - 0.5, row - 0.5, column - 0.5, row + 0.5);
          if (row && values[n] !== values[n - plane.wide]) line(plane, context, column - 0.5, row - 0.5, column + 0.5, row - 0.5);
        }
      }
      stroke(context, colour, 1.4);
    }
  }

  const line = (plane, context, c0, r0, c1, r1) => {
    context.moveTo(...onPage(plane, c0, r0));
    context.lineTo(...onPage(plane, c1, r1));
  };
  const stroke = (context, colour, width) => {
    context.strokeStyle = colour;
    context.lineWidth = width * (window.devicePixelRatio || 1);
    context.stroke();
  };

  /* Where a straight grid of the fixed image is taken from, after the start. */
  function drawGrid(plane, context) {
    const apart = Math.max(...shape.map((n, axis) => n * spacing[axis])) / 20;
    const moved = (column, row) => {
      const index = plane.index(column, row), shift = turn(page.grid.inverse, displacement(index));
      const to = index.map((value, axis) => value + shift[axis]);
      return onPage(plane, plane.column(to), plane.row(to));
    };
    const run = (last, at) => {
      for (let k = 0; k <= last; k++) context[k ? "lineTo" : "moveTo"](...at(k));
    };
    context.beginPath();
    const wide = Math.max(1, Math.round(apart / spacing[plane.across])), high = Math.max(1, Math.round(apart / spacing[plane.up]));
    for (let column = 0; column < plane.wide; column += wide) run(plane.high - 1, (k) => moved(column, k));
    for (let row = 0; row < plane.high; row += high) run(plane.wide - 1, (k) => moved(k, row));
    stroke(context, "#7ee08a", 1);
  }

  function drawLandmarks(plane, context) {
    const near = Math.max(2.5, spacing[plane.axis] / 2), radius = 5 * (window.devicePixelRatio || 1);
    const seen = (point) => {
      const index = place(page.grid.inverse, point);
      return Math.abs(index[plane.axis] - state.at[plane.axis]) * spacing[plane.axis] <= near && onPage(plane, plane.column(index), plane.row(index));
    };
    const fixed = page.landmarks.fixed || [], moving = page.landmarks[state.moving] || [];
    fixed.forEach((point, n) => {
      const from = seen(point), to = moving[n] && onPage(plane, ...((index) => [plane.column(index), plane.row(index)])(place(page.grid.inverse, moving[n])));
      if (!from) return;
      context.beginPath();
      context.arc(...from, radius, 0, 7);
      stroke(context, GOLD, 2);
      if (!to) return;
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      stroke(context, "#fff", 1);
    });
    moving.forEach((point) => {
      const at = seen(point);
      if (!at) return;
      context.beginPath();
      for (const sign of [-1, 1]) {
        context.moveTo(at[0] - radius, at[1] - sign * radius);
        context.lineTo(at[0] + radius, at[1] + sign * radius);
      }
      stroke(context, CYAN, 2);
    });
  }

  function drawCross(plane, context) {
    const [x, y] = onPage(plane, plane.column(state.at), plane.row(state.at)), { width, height } = plane.canvas, gap = 8 * (window.devicePixelRatio || 1);
    context.beginPath();
    for (const [x0, y0, x1, y1] of [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]]) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    stroke(context, "rgba(120, 220, 255, 0.75)", 1);
  }

  function drawRuler(plane, context, ratio) {
    const long = [1, 2, 5, 10, 20, 50, 100].filter((mm) => mm * plane.scale <= plane.canvas.width / 3).pop();
    if (!long) return;
    const x = 8 * ratio, y = plane.canvas.height - 8 * ratio;
    Object.assign(context, { shadowColor: "#000", shadowBlur: 4 * ratio });
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + long * plane.scale, y);
    stroke(context, "#fff", 3);
    context.fillStyle = "#fff";
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    context.fillText(`${long} mm`, x, y - 5 * ratio);
    context.shadowBlur = 0;
  }

  // ---- words

  const value = (name) => page.images[name].levels[page.images[name].voxels[offset(state.at)]];

  function values() {
    const label = (map) => (map ? page.labels.values[map[offset(state.at)] - 1] || 0 : undefined);
    const { volume, error } = page.maps || {};
    return {
      fixed: value("fixed"),
      moving: value(state.moving),
      labels: page.labels ? { fixed: label(page.labels.fixed), moving: label(movingLabels()) } : undefined,
      displacement: page.field ? displacement(state.at) : undefined,
      volume: volume ? volume.levels[volume.voxels[offset(state.at)]] : undefined,
      error: error ? error.levels[error.voxels[offset(state.at)]] : undefined,
    };
  }

  function told() {
    const found = values(), signed = (x) => x.toFixed(1), intensity = (name) => `${Number(value(name).toPrecision(3))}`;
    const [x, y, z] = position(), way = (v, plus, minus) => `${Math.abs(v).toFixed(1)} mm ${v < 0 ? minus : plus}`;
    const rows = [
      ["Position (RAS)", `${signed(x)}, ${signed(y)}, ${signed(z)} mm: ${way(x, "right", "left")}, ${way(y, "front", "back")}, ${way(z, "up", "down")} of the origin`],
      ["Voxel", page.coarser ? `${state.at.join(", ")} of this page's coarser grid` : state.at.join(", ")],
      ["Fixed image", intensity("fixed")],
      [state.moving === "after" ? "Moving image, registered" : "Moving image, at the start", intensity(state.moving)],
    ];
    if (found.labels) rows.push(["Labels", `fixed ${found.labels.fixed ?? "not given"}, moving ${found.labels.moving ?? "not given"} (0: none)`]);
    if (found.displacement) rows.push(["Displacement beyond the start", `${Math.hypot(...found.displacement).toFixed(1)} mm (${found.displacement.map(signed).join(", ")})`]);
    if (found.volume !== undefined) rows.push(["Volume, moving by fixed", found.volume ? found.volume.toFixed(2) : "0 or less: a fold"]);
    if (found.error !== undefined) rows.push(["Expected error", `${found.error.toFixed(1)} mm`]);
    find("readout").replaceChildren(...rows.flatMap(([name, text]) => [
      Object.assign(document.createElement("dt"), { textContent: name }),
      Object.assign(document.createElement("dd"), { textContent: text }),
    ]));
  }

  function legend() {
    const items = [], add = (...nodes) => {
      items.push(document.createElement("span"));
      items.at(-1).append(...nodes);
    };
    const swatch = (colour) => Object.assign(document.createElement("i"), { className: "swatch", style: `background:${colour}` });
    const bar = (stops) => Object.assign(document.createElement("i"), { className: "scale", style: `background:${gradient(stops)}` });
    const moving = state.moving === "after" ? "registered moving image" : "moving image as it lay at the start";
    const said = {
      fade: `${Math.round(100 * (1 - state.mix))} % fixed image, ${Math.round(100 * state.mix)} % ${moving}`,
      checkerboard: `Squares of the fixed image and of the ${moving} in turn: edges should run on across the squares`,
      edges: state.edges === "moving" ? `Edges (orange) of the ${moving} on the fixed image` : `Edges (orange) of the fixed image on the ${moving}`,
    }[state.mode];
    if (said) add(said);
    if (state.mode === "difference") add(`Difference, each image between its black (0) and white (1): ${moving} darker by 1`, bar(DIFFERENCE), "brighter by 1");
    if (MAPS[state.map]) {
      const [title, low, stops, high, more] = MAPS[state.map].legend();
      add(`${title} ${low}`, bar(stops), `${high} ${more}`);
    }
    if (page.labels && state.labels === "outlines") add(swatch(GOLD), "labels of the fixed image"), add(swatch(CYAN), "labels of the moving image");
    if (page.labels && (state.labels === "fixed" || state.labels === "moving")) {
      page.labels.values.slice(0, 12).forEach((label, n) => add(swatch(labelColour(n)), `label ${label}`));
      if (page.labels.values.length > 12) add(`and ${page.labels.values.length - 12} more: the number under the cross-hair stands below`);
    }
    if (state.landmarks && page.landmarks.fixed) add("Landmarks: gold circle, fixed; blue cross, moving; the line between them is the error");
    if (state.grid && page.field) add("Green: a straight grid of the fixed image, drawn where the registration takes it from");
    find("legend").replaceChildren(...items);
  }

  // ---- the page's controls

  function showControls() {
    for (const input of document.querySelectorAll("[data-set]")) {
      const now = input.dataset.set.split(".").reduce((from, key) => from[key], state);
      if (input.type === "radio") input.checked = input.value === now;
      else if (input.type === "checkbox") input.checked = now;
      else input.value = now;
    }
    for (const part of document.querySelectorAll("[data-mode]")) part.hidden = part.dataset.mode !== state.mode;
    for (const side of ["fixed", "moving"]) {
      const [low, high] = state.window[side];
      find(`${side}-level`).value = (low + high) / 2;
      find(`${side}-width`).value = high - low;
      find(`${side}-window`).textContent = `level ${Number(((low + high) / 2).toPrecision(3))}, window ${Number((high - low).toPrecision(3))}`;
    }
  }

  function setWindow(side) {
    const level = Number(find(`${side}-level`).value), width = Math.max(Number(find(`${side}-width`).value), 1e-6);
    set({ window: { ...state.window, [side]: [level - width / 2, level + width / 2] } });
  }

  function prepareControls() {
    for (const input of document.querySelectorAll("[data-set]")) {
      input.addEventListener("input", () => {
        const read = input.type === "checkbox" ? input.checked : input.type === "range" ? Number(input.value) : input.value;
        set({ [input.dataset.set]: read });
      });
    }
    for (const side of ["fixed", "moving"]) {
      const levels = page.images[side === "fixed" ? "fixed" : "before"].levels, range = levels[255] - levels[0];
      Object.assign(find(`${side}-level`), { min: levels[0], max: levels[255], step: range / 500 });
      Object.assign(find(`${side}-width`), { min: range / 500, max: range, step: range / 500 });
      for (const what of ["level", "width"]) find(`${side}-${what}`).addEventListener("input", () => setWindow(side));
    }
    const hounsfield = page.images.fixed.levels[0] < -500;
    find("presets").hidden = !hounsfield;
    for (const button of document.querySelectorAll("[data-window]")) {
      button.addEventListener("click", () => {
        const [level, width] = button.dataset.window.split(",").map(Number), bounds = [level - width / 2, level + width / 2];
        set({ window: { fixed: bounds, moving: bounds } });
      });
    }
    find("reset").addEventListener("click", () => set(initial()));
    if (!page.images.after) for (const part of document.querySelectorAll("[data-needs=after]")) part.hidden = true;
    if (!page.labels) find("labels-control").hidden = true;
    if (!page.landmarks.fixed && !page.landmarks.before) find("landmarks-control").hidden = true;
    if (!page.field) for (const part of document.querySelectorAll("[data-needs=field]")) part.hidden = true;
  }

  const KEYS = {
    " ": () => ({ mode: "fade", mix: state.mix < 0.5 ? 1 : 0 }),
    b: () => page.images.after && { moving: state.moving === "after" ? "before" : "after" },
    f: () => ({ mode: "fade" }), c: () => ({ mode: "checkerboard" }), d: () => ({ mode: "difference" }),
    e: () => ({ mode: "edges" }), x: () => ({ mode: "edges", edges: state.edges === "moving" ? "fixed" : "moving" }),
    g: () => ({ grid: !state.grid }), v: () => ({ map: state.map === "volume" ? "none" : "volume" }),
    l: () => page.labels && { labels: { off: "outlines", outlines: "fixed", fixed: "moving", moving: "off" }[state.labels] },
    "+": () => zoomed(1.25), "=": () => zoomed(1.25), "-": () => zoomed(0.8), 0: () => zoomed(0), r: () => initial(),
    ArrowLeft: () => stepped("across", -1), ArrowRight: () => stepped("across", 1),
    ArrowUp: () => stepped("up", -1), ArrowDown: () => stepped("up", 1),
    PageUp: () => stepped("axis", 1), PageDown: () => stepped("axis", -1),
    ".": () => stepped("axis", 1), ",": () => stepped("axis", -1),
  };

  const zoomed = (factor) => ({ zoom: factor ? Math.min(Math.max(state.zoom * factor, 1), 16) : 1, centre: [...state.at] });

  /* The cross-hair one voxel on: right, down the page, or to the next slice towards R, A or S. */
  function stepped(along, sign) {
    const plane = planes[active], index = [...state.at];
    const towards = page.grid.affine[{ sagittal: 0, coronal: 1, axial: 2 }[plane.name]][plane.axis] < 0 ? -1 : 1;
    const way = { across: plane.flip_across ? -1 : 1, up: plane.flip_up ? 1 : -1, axis: towards }[along];
    index[plane[along]] += sign * way;
    return { at: within(index) };
  }

  function onKey(event) {
    const inField = event.target.closest("input[type=range], input[type=number], select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS) || inField) return;
    if (event.key === " " && event.target.closest("button, input, summary")) return;
    const plane = planes.find((each) => each.canvas === event.target);
    if (plane) active = plane.number;
    else if (/^(Arrow|Page| )/.test(event.key)) return; // the page scrolls
    event.preventDefault();
    const changes = KEYS[event.key]();
    if (changes) set(changes);
  }

  function preparePointer(plane) {
    const down = new Map(), { canvas } = plane;
    const go = (event) => {
      const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
      const x = ((event.clientX - box.left) * ratio - canvas.width / 2) / plane.scale + plane.middle[0];
      const y = ((event.clientY - box.top) * ratio - canvas.height / 2) / plane.scale + plane.middle[1];
      set({ at: within(plane.index(Math.floor(x / spacing[plane.across]), Math.floor(y / spacing[plane.up]))) });
    };
    const apart = () => { const [a, b] = [...down.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
    canvas.addEventListener("pointerdown", (event) => {
      down.set(event.pointerId, event);
      canvas.setPointerCapture(event.pointerId);
      if (down.size === 1) go(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!down.has(event.pointerId)) return;
      const before = down.size === 2 && apart();
      down.set(event.pointerId, event);
      if (down.size === 1) go(event);
      if (down.size === 2 && before) set(zoomed(apart() / before));
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => down.delete(event.pointerId));
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) return; // the page scrolls until a plane was chosen
      event.preventDefault();
      active = plane.number;
      set(event.ctrlKey ? zoomed(event.deltaY < 0 ? 1.1 : 0.9) : stepped("axis", event.deltaY < 0 ? 1 : -1));
    }, { passive: false });
  }

  let scale = 1, planes = [];

  /* All planes have one scale: beside each other where they are wide enough, else below each other. */
  function layout() {
    const room = find("planes").clientWidth, ratio = window.devicePixelRatio || 1;
    const widths = planes.map((plane) => plane.width), all = widths.reduce((sum, width) => sum + width, 0);
    const stacked = room < 700, wide = stacked ? Math.max(...widths) : all;
    const space = stacked ? room : room - 12 * (planes.length - 1) - 1;
    scale = Math.min(space / wide, 620 / Math.max(...planes.map((plane) => plane.height)));
    for (const plane of planes) {
      const size = [plane.width, plane.height].map((mm) => Math.max(Math.round(mm * scale), 1));
      Object.assign(plane.canvas, { width: size[0] * ratio, height: size[1] * ratio });
      Object.assign(plane.canvas.style, { width: `${size[0]}px`, height: `${size[1]}px` });
    }
  }

  function render() {
    planes.forEach(draw);
    told();
    legend();
    showControls();
  }

  function set(changes) {
    state = { ...state, ...changes };
    render();
  }

  async function begin() {
    try {
      await load();
      planes = page.planes.map(planeOf);
      prepareControls();
      planes.forEach(preparePointer);
      document.addEventListener("keydown", onKey);
      window.addEventListener("resize", () => { layout(); render(); });
      layout();
      render();
      find("loading").hidden = true;
    } catch (error) {
      find("loading").textContent = "The images cannot be shown: this browser is too old (Chrome, Edge, Firefox and Safari can from 2023 on), or the file is damaged.";
      throw error;
    }
  }

  return {
    ready: begin(),
    go: (mm) => set({ at: within(place(page.grid.inverse, mm)) }),
    position, values, set,
    state: () => JSON.parse(JSON.stringify(state)),
    planes: () => planes.map((plane) => ({
      name: plane.name, left: plane.left, right: plane.right, top: plane.top, bottom: plane.bottom, canvas: plane.canvas,
      cross: onPage(plane, plane.column(state.at), plane.row(state.at)),
    })),
  };
})();
