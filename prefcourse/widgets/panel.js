// A panel: controls, buttons, a picture, words and answers. What they mean is known to the kernel alone.

function control(spec, model) {
  const id = `pc-${spec.name}-${Math.random().toString(36).slice(2)}`;
  const value = () => model.get("values")[spec.name];
  const set = (next) => {
    model.set("values", { ...model.get("values"), [spec.name]: next });
    model.save_changes();
  };
  const out = make("output", { for: id });
  let input;
  if (spec.kind === "choice") {
    const options = spec.options.map((option, place) => make("option", { value: place }, option));
    input = make("select", { id, onchange: () => set(spec.options[Number(input.value)]) }, ...options);
  } else {
    input = make("input", { id, type: "range", min: 0, max: spec.options.length - 1, step: 1,
      oninput: () => { say(); set(spec.options[Number(input.value)]); } });
  }
  // a slider runs over places in a list, so that a screen reader is told the value and not the place
  function say() {
    if (spec.kind === "choice") return;
    const word = spec.words[Number(input.value)];
    out.textContent = word;
    input.setAttribute("aria-valuetext", word);
  }
  function draw() {
    const place = Math.max(0, spec.options.indexOf(value()));
    if (Number(input.value) !== place) input.value = place;
    say();
    const method = model.get("values").method;
    node.hidden = Boolean(spec.only) && !spec.only.includes(method);
    input.disabled = model.get("busy") && !spec.live;
  }
  const node = make("div", { class: "pc-control" }, make("label", { for: id }, spec.label, spec.kind === "choice" ? null : out), input);
  return { node, draw };
}

function render({ model, el }) {
  const controls = model.get("controls").map((spec) => control(spec, model));
  const buttons = model.get("buttons").map((spec) => {
    const node = make("button", { type: "button", class: spec.first ? "pc-button pc-first" : "pc-button",
      onclick: () => model.send({ do: spec.name }) }, spec.label);
    return { node, draw: () => { node.disabled = spec.when === "busy" ? !model.get("busy") : spec.when === "idle" && model.get("busy"); } };
  });
  const news = make("p", { class: "pc-news", role: "status" });
  const work = bar("progress");
  const picture = make("img", { class: "pc-picture" });
  const words = make("div", { class: "pc-words" });
  const root = make(
    "section",
    { class: "pc pc-panel", role: "group", "aria-label": model.get("label"), "data-lm-suppress-shortcuts": "true" },
    make("div", { class: "pc-controls" }, ...controls.map((one) => one.node)),
    make("div", { class: "pc-buttons" }, ...buttons.map((one) => one.node)),
    work.node, news, picture, words,
  );

  // the notebook would take the arrow keys from the sliders
  root.addEventListener("keydown", (event) => event.stopPropagation());

  let address = null;
  function drawPicture() {
    const data = model.get("picture");
    picture.hidden = !data || data.byteLength === 0;
    if (picture.hidden) return;
    const old = address;
    address = URL.createObjectURL(new Blob([data], { type: "image/png" }));
    const next = new Image();
    const mine = address;
    next.onload = () => { if (mine === address) picture.src = mine; if (old) setTimeout(() => URL.revokeObjectURL(old), 1000); };
    next.src = address; // decoded first, then shown: no blank in between
  }
  const drawAlt = () => { picture.alt = model.get("alt"); picture.width = model.get("width"); };
  const drawWords = () => { words.innerHTML = model.get("words"); };
  const drawNews = () => { news.textContent = model.get("news"); };
  const drawControls = () => {
    const focused = document.activeElement;
    for (const one of [...controls, ...buttons]) one.draw();
    work.node.hidden = !model.get("busy");
    work.set(model.get("share"));
    if (root.contains(focused) && focused.disabled) { root.tabIndex = -1; root.focus(); }
  };
  const watched = { "change:picture": drawPicture, "change:alt": drawAlt, "change:width": drawAlt, "change:words": drawWords,
    "change:news": drawNews, "change:values": drawControls, "change:busy": drawControls, "change:share": drawControls };
  for (const [event, draw] of Object.entries(watched)) model.on(event, draw);
  drawPicture(); drawAlt(); drawWords(); drawNews(); drawControls();
  el.append(root);
  const showTwin = hideTwin(el);
  return () => {
    for (const [event, draw] of Object.entries(watched)) model.off(event, draw);
    if (address) URL.revokeObjectURL(address);
    showTwin();
  };
}

export default { render };
