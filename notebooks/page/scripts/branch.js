"use strict";

// Shows the states of the chosen sequence, and the endings that were drawn from the chosen level.
document.querySelectorAll(".branch").forEach(function (box) {
  const levels = box.querySelectorAll("input[name=level]");
  function chosen(name) {
    return Number(box.querySelector("input[name=" + name + "]:checked").value);
  }
  function show() {
    const first = chosen("sequence") * levels.length;
    const branched = chosen("level");
    levels.forEach(function (level, i) {
      const tile = level.parentElement.querySelector(".tile");
      tile.style.setProperty("--y", first + i);
    });
    box.querySelectorAll(".endings .tile").forEach(function (tile) {
      tile.style.setProperty("--y", first + branched);
    });
    box.querySelector(".value").textContent = levels[branched].dataset.level;
  }
  box.addEventListener("change", show);
  show();
});
