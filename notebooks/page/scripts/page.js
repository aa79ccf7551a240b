"use strict";

// The theme marks captions of its menu as headings without saying of what level.
document.querySelectorAll(".caption[role=heading]").forEach(function (caption) {
  caption.setAttribute("aria-level", "2");
});

// Boxes that scroll can be reached by keyboard in every browser.
function reachable() {
  document.querySelectorAll("pre, mjx-container, .math-wrapper, .cell_output, .table-wrapper").forEach(function (box) {
    const down = getComputedStyle(box).overflowY === "auto" && box.scrollHeight > box.clientHeight;
    if (down || box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  });
}

// Formulas that are a little too wide are set smaller.
window.addEventListener("load", function () {
  // Pages without formulas have no MathJax.
  const drawn = window.MathJax ? MathJax.startup.promise : Promise.resolve();
  drawn.then(function () {
    document.querySelectorAll("mjx-container[display=true]").forEach(function (box) {
      const size = Math.max(0.7, (0.95 * box.clientWidth) / box.scrollWidth);
      if (size < 0.95) box.style.fontSize = 90 * size + "%";
    });
    reachable();
    window.addEventListener("resize", reachable);
  });
});
