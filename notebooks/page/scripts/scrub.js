"use strict";

// Moves the states and spectra of all models to the step that the slider names.
document.querySelectorAll(".scrub").forEach(function (box) {
  const slider = box.querySelector("input");
  const last = Number(slider.max);
  const models = Array.from(box.querySelectorAll("figure"), function (figure) {
    const film = JSON.parse(figure.querySelector("script").textContent);
    return { figure: figure, film: film };
  });
  function show() {
    const frame = Number(slider.value);
    models.forEach(function (model) {
      const state = model.figure.querySelector(".state");
      state.style.backgroundPosition = (100 * frame) / last + "% 0";
      model.figure.querySelector(".now").setAttribute("d", model.film.paths[frame]);
      model.figure.querySelector(".level").textContent = model.film.levels[frame];
    });
    const levels = models.map(function (model) { return model.film.levels[frame]; });
    slider.setAttribute("aria-valuetext", "levels " + levels.join(", "));
  }
  slider.addEventListener("input", show);
  show();
});
