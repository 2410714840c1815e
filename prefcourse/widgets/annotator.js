// The annotator's desk: two cards, four keys. Shows what the kernel says and tells it what was chosen.

const KEYS = { 1: "A", 2: "B", 0: "tie" };

function stopwatch() {
  let start = performance.now();
  let away = 0;
  let left = null;
  const look = () => {
    if (document.hidden) left = performance.now();
    else if (left !== null) { away += performance.now() - left; left = null; }
  };
  document.addEventListener("visibilitychange", look);
  return {
    restart() { start = performance.now(); away = 0; },
    seconds: () => (performance.now() - start - away) / 1000,
    stop: () => document.removeEventListener("visibilitychange", look),
  };
}

function card(side, key, choose) {
  const text = make("span", { class: "pc-card-text" });
  const head = make("span", { class: "pc-card-head" }, `${side} answer`, make("kbd", {}, key));
  const node = make("button", { type: "button", class: "pc-card", onclick: choose }, head, text);
  return { node, text };
}

function render({ model, el }) {
  const watch = stopwatch();
  const tell = (message) => model.send(message);
  // A second press before the kernel has answered would label a pair that nobody has seen: it names the pair that is
  // on the screen, and the kernel takes one label for each.
  const label = (what) => tell({ do: "label", label: what, seconds: watch.seconds(), number: model.get("state").number });
  const choose = (what) => () => label(what);
  const left = card("Left", "1", choose("A"));
  const right = card("Right", "2", choose("B"));
  const prompt = make("p", { class: "pc-prompt" });
  const count = make("p", { class: "pc-count" });
  const news = make("p", { class: "pc-news", role: "status" });
  const done = bar("pairs labelled");
  const work = bar("training");
  const button = (text, key, act) =>
    make("button", { type: "button", class: "pc-button", onclick: act }, text, key ? make("kbd", {}, key) : null);
  const tie = button("Tie", "0", choose("tie"));
  const undo = button("Undo", "U", () => tell({ do: "undo" }));
  const finish = button("See what my labels say", "", () => tell({ do: "finish" }));
  const goOn = button("Go on labelling", "", () => tell({ do: "go on" }));
  const train = button("Train on my labels", "", () => tell({ do: "train" }));
  const stop = button("Stop", "", () => tell({ do: "stop" }));
  const desk = make("div", {}, prompt, make("div", { class: "pc-cards" }, left.node, right.node));
  const report = make("div", { class: "pc-report" });
  const buttons = make("div", { class: "pc-buttons" }, tie, undo, finish, goOn, train, stop);
  const root = make(
    "section",
    { class: "pc pc-annotator", tabindex: 0, role: "group", "data-lm-suppress-shortcuts": "true",
      "aria-label": "Be the annotator. Keys: 1 left, 2 right, 0 tie, U undo." },
    done.node, count, desk, report, work.node, buttons, news,
  );

  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const state = model.get("state");
    const what = KEYS[event.key];
    if (what && !state.reporting) label(what);
    else if (event.key.toLowerCase() === "u" && state.number > 0 && !state.busy) tell({ do: "undo" });
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  let shown = null;
  function draw() {
    const s = model.get("state");
    const here = root.contains(document.activeElement);
    if (shown !== `${s.number} ${s.reporting}`) watch.restart();
    shown = `${s.number} ${s.reporting}`;
    done.set(s.number / s.total);
    count.textContent = s.count;
    prompt.textContent = s.prompt;
    left.text.textContent = s.left;
    right.text.textContent = s.right;
    desk.hidden = tie.hidden = s.reporting;
    undo.hidden = s.busy;
    undo.disabled = s.number === 0;
    finish.hidden = s.reporting || !s.enough;
    goOn.hidden = !s.reporting || s.busy || s.number === s.total;
    train.hidden = !s.reporting || s.busy;
    stop.hidden = work.node.hidden = !s.busy;
    work.set(s.share);
    report.hidden = !s.reporting;
    if (report.dataset.html !== s.report) { report.dataset.html = report.innerHTML = s.report; }
    news.textContent = s.news;
    if (here && !(document.activeElement.offsetParent && root.contains(document.activeElement))) root.focus();
  }
  model.on("change:state", draw);
  draw();
  el.append(root);
  const showTwin = hideTwin(el);
  return () => { model.off("change:state", draw); watch.stop(); showTwin(); };
}

export default { render };
