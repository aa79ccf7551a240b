"use strict";

// Shows the image of the chosen start and noise; a click on the grid chooses both.
document.querySelectorAll(".noise").forEach(function (box) {
  const starts = box.querySelectorAll("input[name=start]");
  const noises = box.querySelectorAll("input[name=noise]");
  const grid = box.querySelector(".grid");
  const tile = box.querySelector("figure .tile");
  function show() {
    const start = Array.from(starts).findIndex(function (input) { return input.checked; });
    const noise = Array.from(noises).findIndex(function (input) { return input.checked; });
    grid.style.setProperty("--x", start);
    grid.style.setProperty("--y", noise);
    tile.style.setProperty("--x", start);
    tile.style.setProperty("--y", noise + 1);
    box.querySelector(".start").textContent = start + 1;
    box.querySelector(".row").textContent = noise + 1;
  }
  grid.addEventListener("click", function (event) {
    const place = grid.getBoundingClientRect();
    const across = (event.clientX - place.left) / place.width;
    const down = (event.clientY - place.top) / place.height;
    starts[Math.min(Math.floor(across * starts.length), starts.length - 1)].checked = true;
    noises[Math.min(Math.floor(down * noises.length), noises.length - 1)].checked = true;
    show();
  });
  box.addEventListener("change", show);
  show();
});
