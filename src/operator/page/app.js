"use strict";
// Labels and names are foreign text: they only ever become text nodes.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
// With the look at the clock every 100 ms, whatever has stopped is said to be stale within a second.
const PATIENCE_S = 0.75;
const SPOKEN_EVERY_MS = 5000;

let state = null; // the last state event
let camera = null; // the chosen camera's name
let source = null; // the EventSource
let seenAt = 0; // when the last decision came, by this page's clock
let gap_s = 0; // the time between the last two
let shown = null; // the decision whose picture is on the canvas
let bitmap = null;
let wanted = null; // a decision whose picture is to be fetched next
let fetching = false;
let spokenAt = 0;
let spoken = "";
let editing = false; // the threshold was moved and neither applied nor reverted
let model = null; // what stays the same for the whole run
let frozen = false; // the shown picture stays until it is said what it is
let kept = null; // the last picture that was kept: its camera, its frame, and whether it was discarded
let charted = null; // the history that is drawn
let toldCount = -1; // how many warnings and errors the list knows of

const element = (name, text, className) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};
const setText = (id, text) => {
  const target = $(id);
  if (target.textContent !== text) target.textContent = text;
};
const known = (value) => value !== null && value !== undefined;
const percent = (value, places = 1) => (known(value) ? `${(100 * value).toFixed(places)} %` : "–");
// Above 1 no coarse answer is sure enough, and at 0 every one is.
const limit = (value) => (!known(value) ? "–" : value > 1 ? "always fine" : value <= 0 ? "never fine" : percent(value, 0));
const unit = (value, name, places = 1) => (known(value) ? `${value.toFixed(places)} ${name}` : "not measured");
const duration = (seconds) => {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} days`;
};
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const current = () => state && state.cameras.find((one) => one.name === camera);

async function ask(path, options) {
  const response = await fetch(path, { cache: "no-store", ...options });
  if (response.ok) return response;
  let why = response.statusText;
  try {
    why = (await response.json()).error || why;
  } catch (_) {
    // No JSON: the status says what there is to say.
  }
  const error = new Error(why);
  error.status = response.status;
  throw error;
}

// --- The connection. ---

function connect() {
  disconnect();
  if (document.hidden) return;
  source = new EventSource(camera === null ? "api/events" : `api/events?camera=${encodeURIComponent(camera)}`);
  source.addEventListener("state", (event) => onState(JSON.parse(event.data)));
  source.addEventListener("decision", (event) => onDecision(JSON.parse(event.data)));
  source.addEventListener("error", explainError);
}

// Why there are no events is told only to a plain request.
async function explainError() {
  showPill("bad", "no connection");
  try {
    await ask("api/state");
  } catch (error) {
    if (error.status !== 401) return;
    showPill("bad", "log in to look");
    $("login").hidden = false;
    disconnect();
  }
}

function disconnect() {
  if (source) source.close();
  source = null;
}

function onState(next) {
  state = next;
  const names = state.cameras.map((one) => one.name);
  showTabs(names);
  if (!names.includes(camera) && names.length > 0) return choose(names[0]);
  const one = current();
  if (one && one.decision && !frozen && (shown === null || one.state !== "up")) showAnswer(one.decision);
  setText("version", `${state.model} · cfvit ${state.version}`);
  showAge();
  showLimits();
  showThreshold();
  showKeeping();
  showHealth();
  if (state.told !== toldCount) loadTold();
  if (model === null) loadModel();
}

async function loadModel() {
  model = {};
  try {
    model = await (await ask("api/model")).json();
    $("promise").hidden = !model.promise;
    setText("promise", model.promise ? `Certified: ${model.promise}.` : "");
    showThreshold();
  } catch (_) {
    model = null; // The next state asks again.
  }
}

function choose(name) {
  camera = name;
  thaw();
  [shown, bitmap, wanted, editing, seenAt, gap_s] = [null, null, null, false, 0, 0];
  draw();
  connect();
  loadHistory();
}

function showTabs(names) {
  const nav = $("cameras");
  const old = Array.from(nav.children, (button) => button.textContent);
  if (old.join("\n") !== names.join("\n")) {
    nav.replaceChildren(...names.map((name) => {
      const button = element("button", name);
      button.addEventListener("click", () => choose(name));
      return button;
    }));
  }
  for (const button of nav.children) button.setAttribute("aria-pressed", String(button.textContent === camera));
}

function showPill(kind, text) {
  $("pill").dataset.state = kind;
  setText("pill", text);
}

// --- How old what is shown is. ---

function showAge() {
  const one = current();
  if (!source || source.readyState !== EventSource.OPEN || !one) return;
  const rate = one.last_second && one.last_second.frames_per_s;
  const period_s = Math.max(rate > 0 ? 1 / rate : 0, gap_s);
  const age_s = seenAt ? (performance.now() - seenAt) / 1000 : one.age_s;
  const words = { waiting: "waiting for camera", lost: "camera lost", ended: "ended" };
  const old = known(age_s) && age_s > Math.max(PATIENCE_S, 3 * period_s);
  const missing = frozen ? undefined : words[one.state];
  const overlay = $("overlay");
  document.body.classList.toggle("stale", !frozen && (old || Boolean(missing)));
  if (frozen) {
    showPill("waiting", "picture held");
    overlay.hidden = true;
    return;
  }
  if (missing) showPill(one.state === "lost" ? "bad" : "waiting", missing);
  else if (old) showPill("bad", `stale ${duration(age_s)}`);
  else showPill("live", "live");
  const text = missing || old ? `${missing || "stale"}${known(age_s) ? `, last frame ${duration(age_s)} ago` : ""}` : "";
  overlay.hidden = text === "";
  setText("overlay", text);
}

// What holds the clocks back, and a promise that no longer holds, must not be found only by whoever looks for it.
function showLimits() {
  const [one, by] = [current(), state.machine.limited_by];
  $("limited").hidden = by.length === 0;
  setText("limited", `throttled: ${by.join(", ")}`);
  $("degraded").hidden = !(one && one.degraded);
}

// --- Picture and answer: always of the same frame. ---

function onDecision(decision) {
  const now = performance.now();
  gap_s = seenAt ? (now - seenAt) / 1000 : 0;
  seenAt = now;
  wanted = decision;
  fetchPicture();
  showAge();
}

async function fetchPicture() {
  if (fetching || wanted === null) return;
  const [decision, of] = [wanted, camera];
  wanted = null;
  fetching = true;
  try {
    const response = await ask(`cameras/${encodeURIComponent(of)}/frame.jpg?seq=${decision.seq}`);
    const picture = await createImageBitmap(await response.blob());
    if (of === camera && !frozen) {
      if (bitmap) bitmap.close();
      [bitmap, shown] = [picture, decision];
      draw();
      showAnswer(decision);
    }
  } catch (_) {
    // The next decision brings the next picture.
  } finally {
    fetching = false;
    if (wanted) fetchPicture();
  }
}

function draw() {
  const canvas = $("canvas");
  const context = canvas.getContext("2d");
  if (!bitmap || !shown) {
    context.clearRect(0, 0, canvas.width, canvas.height);
    canvas.setAttribute("aria-label", "No picture yet");
    return;
  }
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  }
  context.drawImage(bitmap, 0, 0);
  canvas.dataset.seq = shown.seq;
  canvas.dataset.cells = shown.informative.join(",");
  if ($("show-attention").checked) drawAttention(context, canvas.width, canvas.height);
  if ($("show-cells").checked) drawCells(context, canvas.width, canvas.height);
  const cells = shown.informative.length;
  const seen = cells ? `${cells} of ${state.grid ** 2} regions looked at twice` : "no region looked at twice";
  canvas.setAttribute("aria-label", `${camera}: ${shown.smooth.name}, ${seen}`);
  setText("seq", `frame ${shown.seq}, ${clock(shown.captured_ms)}; ${seen}`);
}

// The network sees the square in the middle; its cells are counted row by row.
function grid(width, height) {
  const side = Math.min(width, height) * state.crop;
  const [left, top, cell] = [(width - side) / 2, (height - side) / 2, side / state.grid];
  const at = (index) => [left + (index % state.grid) * cell, top + Math.floor(index / state.grid) * cell];
  return { side, left, top, cell, at };
}

// How much the coarse stage's answer looked at each cell; 1 is the one it looked at most.
function drawAttention(context, width, height) {
  const { cell, at } = grid(width, height);
  shown.attention.forEach((value, index) => {
    context.fillStyle = `rgb(255 60 0 / ${(0.65 * value).toFixed(3)})`;
    context.fillRect(...at(index), cell, cell);
  });
}

function drawCells(context, width, height) {
  const { side, left, top, cell, at } = grid(width, height);
  const informative = new Set(shown.informative);
  const thick = Math.max(1.5, width / 320);
  context.fillStyle = "rgb(0 0 0 / .45)";
  context.beginPath();
  context.rect(0, 0, width, height);
  context.rect(left, top, side, side);
  context.fill("evenodd");
  if (informative.size > 0) {
    context.fillStyle = "rgb(0 0 0 / .3)";
    for (let index = 0; index < state.grid ** 2; index += 1) {
      if (!informative.has(index)) context.fillRect(...at(index), cell, cell);
    }
    // Dark below light, so that the lines are seen on any picture.
    for (const [style, extra] of [["rgb(0 0 0 / .7)", 2], ["#ffd54a", 0]]) {
      context.strokeStyle = style;
      context.lineWidth = thick + extra;
      context.beginPath();
      for (const index of informative) context.rect(...at(index), cell, cell);
      context.stroke();
    }
  }
  context.strokeStyle = "#fff";
  context.lineWidth = 1;
  context.setLineDash([4, 4]);
  context.strokeRect(left + 0.5, top + 0.5, side - 1, side - 1);
  context.setLineDash([]);
}

function showAnswer(decision) {
  const { stage, smooth, coarse_confidence: sure, threshold } = decision;
  setText("label", smooth.name || `class ${smooth.label}`);
  $("badge").dataset.stage = stage;
  setText("badge", { coarse: "coarse was enough", fine: "fine stage asked", static: "static pass" }[stage]);
  setText("raw", `steady over the last frames: ${percent(smooth.probability)}; this one: ${decision.name || decision.label}, ${percent(decision.confidence)}`);
  const compared = `coarse confidence ${percent(sure)}, threshold ${threshold > 1 || threshold <= 0 ? limit(threshold) : percent(threshold)}`;
  setText("why", stage === "static" ? "Both stages gave way to one pass over everything." : `${compared}.`);
  const fine = stage === "coarse" ? [] : decision.top;
  setText("fine-title", stage === "static" ? "Static pass" : "Fine stage");
  showClasses("coarse", decision.coarse_top, "did not run");
  showClasses("fine", fine, "was not asked");
  setText("latency", `${decision.latency_ms.toFixed(1)} ms`);
  setText("ms-coarse", stage === "static" ? "–" : `${decision.timing_ms.coarse.toFixed(1)} ms`);
  setText("ms-fine", stage === "fine" ? `${decision.timing_ms.fine.toFixed(1)} ms` : "–");
  setText("energy", unit(state.machine.last_second && state.machine.last_second.energy_mj_per_frame, "mJ", 0));
  speak(`${smooth.name}, ${Math.round(100 * smooth.probability)} percent, ${stage} stage`);
}

function showClasses(id, classes, otherwise) {
  const body = $(id);
  if (classes.length === 0) {
    const row = element("tr");
    row.append(element("th", otherwise, "quiet"));
    return body.replaceChildren(row);
  }
  while (body.children.length > classes.length) body.lastChild.remove();
  classes.forEach((one, index) => {
    let row = body.children[index];
    if (!row || row.children.length !== 2) {
      const made = element("tr");
      const head = element("th");
      head.scope = "row";
      made.append(head, element("td"));
      if (row) row.replaceWith(made);
      else body.append(made);
      row = made;
    }
    row.className = index === 0 ? "first" : "";
    row.children[0].textContent = one.name || `class ${one.label}`;
    row.children[1].textContent = percent(one.probability);
    row.style.setProperty("--share", String(one.probability));
  });
}

function speak(text) {
  const now = performance.now();
  if (text === spoken || now - spokenAt < SPOKEN_EVERY_MS) return;
  [spoken, spokenAt] = [text, now];
  setText("live", text);
}

// --- Keeping pictures for training. ---

function showKeeping() {
  $("keeping").hidden = !(state.may_write && state.examples);
  $("keep").disabled = frozen || shown === null;
}

function post(of, seq, what) {
  const headers = { "X-Cfvit": "1", "Content-Type": "application/json" };
  return ask(`api/cameras/${encodeURIComponent(of)}/examples`, { method: "POST", headers, body: JSON.stringify({ seq, ...what }) });
}

// The picture is on the disk before anybody thinks about it: the service forgets what it showed within seconds.
async function keep() {
  if (frozen || shown === null) return;
  frozen = true;
  kept = { of: camera, seq: shown.seq, discarded: false };
  showKeeping();
  showAge();
  try {
    await post(kept.of, kept.seq, {});
    if (frozen) askClass();
  } catch (error) {
    thaw();
    setText("keep-note", error.message);
  }
}

function askClass() {
  const classes = [];
  for (const one of [...shown.top, ...shown.coarse_top]) {
    if (classes.length < 9 && !classes.some((known) => known.label === one.label)) classes.push(one);
  }
  const choices = classes.map((one, index) => [String(index + 1), one.name || `class ${one.label}`, { class: one.label }]);
  choices.push(["0", "none of them", {}], ["Delete", "discard", { discard: true }]);
  const buttons = choices.map(([key, name, what]) => {
    const button = element("button");
    button.dataset.key = key;
    button.append(element("b", key), name);
    button.addEventListener("click", () => settle(name, what));
    return button;
  });
  const asking = $("asking");
  asking.replaceChildren(asking.firstElementChild, ...buttons);
  asking.hidden = false;
  $("undo").hidden = true;
  setText("keep-note", `frame ${kept.seq} is kept, not labelled`);
  buttons[0].focus();
}

async function settle(name, what) {
  try {
    const answer = await (await post(kept.of, kept.seq, what)).json();
    kept.discarded = Boolean(what.discard);
    $("undo").hidden = false;
    const where = { inbox: "kept, not labelled", discarded: "not kept" }[answer.place] || `kept for ${answer.place}: ${name}`;
    thaw();
    setText("keep-note", `frame ${kept.seq}: ${where}`);
    $("keep").focus();
  } catch (error) {
    setText("keep-note", error.message);
  }
}

async function undo() {
  try {
    await post(kept.of, kept.seq, kept.discarded ? {} : { discard: true });
    setText("keep-note", `frame ${kept.seq}: ${kept.discarded ? "kept again, not labelled" : "not kept after all"}`);
    $("undo").hidden = true;
    $("keep").focus();
  } catch (error) {
    setText("keep-note", error.message);
  }
}

function thaw() {
  frozen = false;
  $("asking").hidden = true;
  if (state) showKeeping();
  showAge();
}

function onKey(event) {
  if (!frozen || event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
  const key = event.key === "Escape" ? "0" : event.key;
  const button = Array.from($("asking").querySelectorAll("button")).find((one) => one.dataset.key === key);
  if (!button) return;
  event.preventDefault();
  button.click();
}

// --- The threshold. ---

// The share of the values below `value`, straight within a bucket, and of how many.
function shareBelow(buckets, value) {
  let [lower, below, total] = [0, 0, 0];
  for (const [upper, count] of buckets) {
    const part = upper > lower ? Math.min(1, Math.max(0, (value - lower) / (upper - lower))) : Number(value > upper);
    below += count * (value > 1 ? 1 : part);
    total += count;
    lower = upper;
  }
  return total > 0 ? [below / total, total] : [null, 0];
}

// On a curve of points that ascend; nothing without one.
function onCurve(curve, x) {
  if (!curve || curve.length === 0) return null;
  const after = curve.findIndex((point) => point[0] >= x);
  if (after <= 0) return curve[after === 0 ? 0 : curve.length - 1][1];
  const [[x0, y0], [x1, y1]] = [curve[after - 1], curve[after]];
  return y0 + ((y1 - y0) * (x - x0)) / (x1 - x0);
}

function energyPart(fine) {
  const { last_second: second, per_decision: costs } = state.machine;
  if (costs && known(costs.coarse_mj) && (known(costs.fine_mj) || fine === 0)) {
    return `${((1 - fine) * costs.coarse_mj + fine * (costs.fine_mj || 0)).toFixed(0)} mJ a frame beyond idling`;
  }
  return second && known(second.power_w) ? "energy not resolved yet" : "energy not measured";
}

function showPredicted(one) {
  const [fine, frames] = shareBelow(one.confidence || [], Number($("number").value));
  if (fine === null) return setText("predicted", "");
  const ms = state.steps_ms;
  const parts = [`${percent(fine, 0)} fine`];
  if (known(ms.coarse) && (known(ms.fine) || fine === 0)) {
    const time = ms.preprocess + ms.coarse + ms.gate + fine * ((ms.gather || 0) + (ms.fine || 0));
    parts.push(`${time.toFixed(1)} ms a frame`);
  }
  parts.push(energyPart(fine));
  const top1 = onCurve(model && model.accuracy, fine);
  const accuracy = known(top1) ? ` On its makers' pictures the model is right on ${top1.toFixed(1)} % at that share.` : " How often the model is right then is not known here.";
  setText("predicted", `Here: about ${parts.join(", ")}, by the ${frames} coarse confidences since the start.${accuracy}`);
}

function showThreshold() {
  const one = current();
  const threshold = one && one.threshold;
  const may = Boolean(state.may_write && threshold);
  for (const id of ["slider", "number"]) $(id).disabled = !may;
  $("login").hidden = state.may_write || !state.may_login;
  if (!threshold) return setText("threshold-state", "");
  if (!editing && known(threshold.in_force)) moveThreshold(threshold.in_force);
  showPredicted(one);
  const changed = known(threshold.changed_ms);
  const configured = limit(threshold.configured);
  const floor = threshold.guarded ? " (certified: it can be raised, not lowered)" : "";
  setText("threshold-state", changed
    ? `changed ${clock(threshold.changed_ms)}, in force ${limit(threshold.in_force)}; configured ${configured}${floor}. Lost at a restart.`
    : `configured: ${configured}${floor}`);
  $("apply").disabled = !(may && editing);
  $("revert").disabled = !(may && (editing || changed));
  if (!state.may_write && !state.may_login) setText("threshold-note", "Read-only: no token is configured (web.token_file).");
}

function moveThreshold(value) {
  const slider = $("slider");
  if (document.activeElement !== $("number") || !editing) $("number").value = Number(value).toFixed(2);
  slider.value = value;
  slider.setAttribute("aria-valuetext", limit(Number(value)));
}

function editThreshold(value) {
  editing = true;
  moveThreshold(value);
  showThreshold();
}

async function writeThreshold(method, body) {
  const path = `api/cameras/${encodeURIComponent(camera)}/threshold`;
  const headers = { "X-Cfvit": "1", "Content-Type": "application/json" };
  try {
    await ask(path, { method, headers, body: body && JSON.stringify(body) });
    editing = false;
    setText("threshold-note", "");
    onState(await (await ask("api/state")).json());
  } catch (error) {
    setText("threshold-note", error.message);
  }
}

async function login(event) {
  event.preventDefault();
  const token = $("token");
  try {
    const headers = { "X-Cfvit": "1", "Content-Type": "application/json" };
    await ask("api/login", { method: "POST", headers, body: JSON.stringify({ token: token.value }) });
    setText("threshold-note", "");
    $("login").hidden = true;
    connect();
  } catch (error) {
    setText("threshold-note", error.message);
  }
  token.value = "";
}

// --- Charts: the same numbers as lines and as tables. ---

const share = (value) => percent(value, 0);
const plain = (name, places) => (value) => `${value.toFixed(places)}${name ? ` ${name}` : ""}`;
const ms = (value) => `${value.toFixed(value < 10 ? 1 : 0)} ms`;
const CHARTS = [
  { title: "Confidence of the coarse stage", of: "camera", lines: [["confidence", "mean"], ["threshold", "threshold"]], top: 1, text: share, says: [share, limit] },
  { title: "Answered by the fine stage", of: "camera", lines: [["fine_share", "share"]], top: 1, text: share },
  { title: "Frame to answer", of: "camera", lines: [["age_p50_ms", "half"], ["age_p99_ms", "99 %"]], text: ms },
  { title: "Coarse stage", of: "machine", lines: [["coarse_p50_ms", "half"], ["coarse_p99_ms", "99 %"]], text: ms },
  { title: "Fine stage", of: "machine", lines: [["fine_p50_ms", "half"], ["fine_p99_ms", "99 %"]], text: ms },
  { title: "Frames a second", of: "camera", lines: [["frames_per_s", "decided"], ["dropped_per_s", "dropped"]], text: plain("", 1) },
  { title: "Power", of: "machine", lines: [["power_w", "drawn"]], text: plain("W", 1) },
  { title: "Energy a frame", of: "machine", lines: [["energy_mj_per_frame", "drawn"]], text: plain("mJ", 0) },
  { title: "Temperature", of: "machine", lines: [["temperature_celsius", "hottest"]], text: plain("°C", 0) },
];

const range = () => document.querySelector("input[name=range]:checked").value;

async function loadHistory() {
  if (camera === null || document.hidden) return;
  try {
    showCharts(await (await ask(`api/history?range=${range()}`)).json());
  } catch (_) {
    // The pill says that there is no connection; the charts stay as they are.
  }
}

function showCharts(history) {
  charted = history;
  const plots = $("plots");
  if (plots.children.length === 0) plots.append(...CHARTS.map(makeChart));
  CHARTS.forEach((chart, index) => {
    const from = chart.of === "camera" ? history.cameras[camera] || {} : history.machine;
    const lines = chart.lines.map(([name]) => from[name] || []);
    showChart(plots.children[index], chart, lines, history);
  });
}

function makeChart(chart) {
  const figure = element("figure");
  const caption = element("figcaption");
  caption.append(element("b", chart.title), ...chart.lines.map((_, index) => element("span", "", `key-${index}`)));
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("role", "img");
  const details = element("details");
  // It scrolls, so the keyboard must get there.
  const scrolled = element("div");
  scrolled.tabIndex = 0;
  scrolled.setAttribute("role", "region");
  scrolled.setAttribute("aria-label", `${chart.title}, table`);
  details.append(element("summary", "As a table"), scrolled);
  details.addEventListener("toggle", loadHistory);
  figure.append(caption, drawing, details);
  return figure;
}

function node(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((top) => top >= value * 0.999);
}

// How a value of a line is written.
const said = (chart, index) => (chart.says ? chart.says[index] : chart.text);

function showChart(figure, chart, lines, history) {
  const [caption, drawing, details] = figure.children;
  const measured = lines.flat().filter(known);
  const last = lines.map((line) => line.findLast(known));
  lines.forEach((_, index) => {
    const text = known(last[index]) ? said(chart, index)(last[index]) : "not measured";
    caption.children[index + 1].textContent = `${chart.lines[index][1]} ${text}`;
  });
  drawing.setAttribute("aria-label", `${chart.title}: ${caption.textContent}`);
  figure.classList.toggle("empty", measured.length === 0);
  if (measured.length === 0) return;
  // A drawing that is hidden has no width.
  const [width, height, left, bottom] = [drawing.clientWidth || 600, 120, 50, 18];
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const span = (width - left - 4) / (range() === "5m" ? 300 : 1440);
  const top = chart.top || niceTop(Math.max(...measured, 1e-3));
  const count = history.time_ms.length;
  const x = (index) => width - 4 - (count - 1 - index) * span;
  const y = (value) => 6 + (height - bottom - 6) * (1 - Math.min(value, top) / top);
  const parts = [];
  (history.machine.limited || []).forEach((limited, index) => {
    if (limited > 0) parts.push(node("rect", { class: "shade", x: x(index) - span, y: 6, width: span + 0.2, height: height - bottom - 6 }));
  });
  for (const value of [0, top / 2, top]) {
    parts.push(node("line", { class: "grid", x1: left, x2: width, y1: y(value), y2: y(value) }));
    parts.push(node("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, chart.text(value)));
  }
  lines.forEach((line, number) => parts.push(node("path", { class: `line line-${number}`, d: path(line, x, y) })));
  const ago = range() === "5m" ? "5 min ago" : "24 h ago";
  parts.push(node("text", { x: left, y: height - 4 }, ago), node("text", { x: width - 4, y: height - 4, "text-anchor": "end" }, "now"));
  drawing.replaceChildren(...parts);
  if (details.open) details.children[1].replaceChildren(table(chart, lines, history));
}

function path(line, x, y) {
  let [text, pen] = ["", false];
  line.forEach((value, index) => {
    if (known(value)) text += `${pen ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = known(value);
  });
  // A single point is a dot.
  return text.replace(/M([\d.]+ [\d.]+)(?=M|$)/g, "M$1h1");
}

function table(chart, lines, history) {
  const made = element("table");
  const head = element("tr");
  head.append(element("th", "Time"), ...chart.lines.map(([, name]) => element("td", name)));
  made.append(head);
  const step = Math.max(1, Math.floor(history.time_ms.length / 30));
  for (let index = history.time_ms.length - 1; index >= 0; index -= step) {
    const row = element("tr");
    row.append(element("th", clock(history.time_ms[index])));
    lines.forEach((line, which) => row.append(element("td", known(line[index]) ? said(chart, which)(line[index]) : "–")));
    made.append(row);
  }
  return made;
}

// --- Health. ---

function showHealth() {
  const [one, machine] = [current(), state.machine];
  if (!one) return;
  const { frames } = one;
  const second = one.last_second || {};
  const lost = frames.captured ? ` (${percent(frames.dropped / frames.captured)})` : "";
  const facts = [
    ["Engine", state.engine],
    ["Up for", duration((state.time_ms - state.started_ms) / 1000)],
    ["Source", one.source],
    ["Camera", one.state],
    ["Last frame", known(one.age_s) ? `${one.age_s.toFixed(1)} s ago` : "none yet"],
    ["Frames a second", known(second.frames_per_s) ? second.frames_per_s.toFixed(1) : "–"],
    ["Captured", String(frames.captured)],
    ["Decided", `${frames.decided}${frames.decided ? `, ${percent(frames.fine / frames.decided)} fine` : ""}`],
    ["Dropped", `${frames.dropped}${lost}`],
    ["Failed", `${frames.failed} (${frames.corrupt} corrupt, ${frames.short} short)`],
    ["Camera returns", known(one.reconnects) ? String(one.reconnects) : "not a camera"],
    ["Power mode", machine.power_mode || "not known"],
    ["Power", unit(machine.last_second && machine.last_second.power_w, "W")],
    ["Hottest zone", unit(machine.last_second && machine.last_second.temperature_celsius, "°C", 0)],
    ["Held back by", machine.limited_by.join(", ") || "nothing"],
    ["Kept for training", state.examples ? `${state.examples.files} pictures, ${(state.examples.bytes / 1048576).toFixed(1)} MiB` : "nowhere"],
    ["Viewers", `${one.pictures ? one.pictures.viewers : 0}, ${state.clients.connections} connections`],
  ];
  const list = $("health-list");
  if (list.children.length !== facts.length) {
    list.replaceChildren(...facts.map(() => {
      const row = element("div");
      row.append(element("dt"), element("dd"));
      return row;
    }));
  }
  facts.forEach(([name, value], index) => {
    const [term, text] = list.children[index].children;
    term.textContent = name;
    if (text.textContent !== value) text.textContent = value;
  });
}

async function loadTold() {
  toldCount = state.told;
  try {
    const { told } = await (await ask("api/told")).json();
    const lines = told.map((one) => {
      const line = element("li");
      line.append(element("span", new Date(one.time_ms).toLocaleString(), "quiet"), " ", element(one.level === "error" ? "b" : "span", one.level), ` ${one.text}`);
      return line;
    });
    $("told").replaceChildren(...(lines.length ? lines : [element("li", "none")]));
  } catch (_) {
    toldCount = -1; // The next state asks again.
  }
}

// --- The beginning. ---

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return disconnect();
  connect();
  loadHistory();
});
for (const id of ["show-cells", "show-attention"]) $(id).addEventListener("change", draw);
$("slider").addEventListener("input", (event) => editThreshold(event.target.value));
$("number").addEventListener("input", (event) => event.target.value !== "" && editThreshold(event.target.value));
$("apply").addEventListener("click", () => writeThreshold("PUT", { threshold: Number($("number").value) }));
$("revert").addEventListener("click", () => {
  editing = false;
  const one = current();
  if (one && one.threshold && known(one.threshold.changed_ms)) writeThreshold("DELETE");
  else showThreshold();
});
$("keep").addEventListener("click", keep);
$("undo").addEventListener("click", undo);
document.addEventListener("keydown", onKey);
$("login").addEventListener("submit", login);
for (const input of document.querySelectorAll("input[name=range]")) input.addEventListener("change", loadHistory);
window.addEventListener("resize", () => charted && showCharts(charted));
setInterval(showAge, 100);
setInterval(loadHistory, 5000);
connect();
