// What all our widgets share: elements, and the still copy that is hidden while the widget lives.
// Plain JavaScript without imports; the kernel sends this text, so nothing is fetched from anywhere.

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

// The copy stands in the next output of the same cell. When the widget goes, the copy comes back.
function hideTwin(el) {
  let area = null;
  const timer = setTimeout(() => {
    area = el.closest(".jp-OutputArea, .output_wrapper, .output") || document.body;
    area.classList.add("pc-alive");
  }, 0);
  return () => {
    clearTimeout(timer);
    if (area) area.classList.remove("pc-alive");
  };
}

function bar(label) {
  const inner = make("div", { class: "pc-bar-inner" });
  const node = make("div", { class: "pc-bar", role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 }, inner);
  return {
    node,
    set(share) {
      const percent = Math.round(100 * share);
      node.setAttribute("aria-valuenow", percent);
      inner.style.width = `${percent}%`;
    },
  };
}
