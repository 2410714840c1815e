// What the theme's pages lack for keyboards and screen readers.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "Course");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "On this page");
  for (const caption of document.querySelectorAll(".caption[role=heading]")) caption.setAttribute("aria-level", "2");
  for (const head of document.querySelectorAll("th")) {
    if (!head.textContent.trim()) head.outerHTML = "<td></td>";
  }
  const focusable = () => {
    for (const area of document.querySelectorAll("pre, mjx-container, .table-wrapper")) {
      if (area.scrollWidth > area.clientWidth) area.tabIndex = 0;
    }
  };
  focusable();
  window.MathJax?.startup?.promise?.then(focusable);
  document.addEventListener("toggle", focusable, true); // code unfolded
});
