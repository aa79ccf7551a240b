"use strict";

// Shows the samples of the delta that the slider names, and moves the marks along their curves.
document.querySelectorAll(".delta").forEach(function (box) {
  const slider = box.querySelector("input");
  const data = JSON.parse(box.querySelector("script").textContent);
  function show() {
    const chosen = Number(slider.value);
    const value = data.deltas[chosen];
    box.querySelector(".value").textContent = value;
    box.querySelectorAll(".tile").forEach(function (tile, row) {
      tile.style.setProperty("--x", chosen);
      tile.setAttribute("aria-label", "Sample " + (row + 1) + " at delta of " + value + " sigma");
    });
    const read = Array.from(box.querySelectorAll(".curves figure"), function (figure, i) {
      const at = data.marks[i][chosen];
      const mark = figure.querySelector(".mark");
      mark.style.visibility = at ? "visible" : "hidden";
      if (at) {
        mark.setAttribute("cx", at[0]);
        mark.setAttribute("cy", at[1]);
      }
      const text = at ? "about " + at[2] : "not measured here";
      figure.querySelector(".reading").textContent = text;
      return figure.querySelector(".name").textContent + " " + text;
    });
    slider.setAttribute("aria-valuetext", value + " sigma, " + read.join(", "));
  }
  slider.addEventListener("input", show);
  show();
});
