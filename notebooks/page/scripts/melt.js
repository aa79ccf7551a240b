"use strict";

// Melts a picture by the heat equation, u(t) = V exp(Lambda t) V^T u(0), as ihdm/heat.py does. V^T is
// the orthonormal DCT-II, -Lambda holds the squared frequencies, and t = sigma_B^2 / 2.
document.querySelectorAll(".melt").forEach(function (box) {
  const canvas = box.querySelector("canvas");
  const slider = box.querySelector("input[type=range]");
  const chooser = box.querySelector("input[type=file]");
  const told = box.querySelector("output");
  const size = canvas.width;
  const sigma = Number(box.dataset.sigma);
  const screen = canvas.getContext("2d", { willReadFrequently: true });

  // Row n holds the cosine of frequency pi n / size.
  const basis = new Float64Array(size * size);
  // The ring of frequencies that a coefficient lies in, and how many lie in each.
  const ring = new Int32Array(size * size);
  const inRing = new Float64Array(size);
  for (let n = 0; n < size; n++) {
    for (let i = 0; i < size; i++) {
      const scale = Math.sqrt((n ? 2 : 1) / size);
      basis[n * size + i] = scale * Math.cos((Math.PI / size) * n * (i + 0.5));
      ring[n * size + i] = Math.round(Math.hypot(n, i));
      if (ring[n * size + i] < size) inRing[ring[n * size + i]] += 1;
    }
  }

  // The product of a (rows x inner) and b (inner x columns), both with rows of `size` numbers.
  function product(a, b, rows, inner, columns) {
    const c = new Float64Array(size * size);
    for (let i = 0; i < rows; i++) {
      for (let k = 0; k < inner; k++) {
        const factor = a[i * size + k];
        for (let j = 0; j < columns; j++) c[i * size + j] += factor * b[k * size + j];
      }
    }
    return c;
  }

  function transposed(a) {
    const b = new Float64Array(size * size);
    for (let i = 0; i < size * size; i++) b[(i % size) * size + Math.floor(i / size)] = a[i];
    return b;
  }

  const inverse = transposed(basis);
  let coefficients = [];
  let sharp = "";

  function take(picture) {
    // The centred square; what is transparent becomes white.
    const side = Math.min(picture.width, picture.height);
    const left = (picture.width - side) / 2;
    const top = (picture.height - side) / 2;
    screen.fillStyle = "white";
    screen.fillRect(0, 0, size, size);
    screen.imageSmoothingQuality = "high";
    screen.drawImage(picture, left, top, side, side, 0, 0, size, size);
    const pixels = screen.getImageData(0, 0, size, size).data;
    coefficients = [0, 1, 2].map(function (channel) {
      const u = new Float64Array(size * size);
      for (let i = 0; i < u.length; i++) u[i] = pixels[4 * i + channel] / 255;
      return product(product(basis, u, size, size, size), inverse, size, size, size);
    });
    sharp = path(power(new Float64Array(size).fill(1)));
    box.querySelector(".end").setAttribute("d", sharp);
    show();
  }

  // The squared coefficients after decay, averaged over colours.
  function power(decay) {
    const squared = new Float64Array(size * size);
    for (let n = 0; n < size; n++) {
      for (let m = 0; m < size; m++) {
        const i = n * size + m;
        coefficients.forEach(function (y) {
          squared[i] += (y[i] * decay[n] * decay[m]) ** 2 / 3;
        });
      }
    }
    return squared;
  }

  // The mean power of each ring, on logarithmic axes: the box is 200 wide for all frequencies and 120
  // high for 1e-8 to 1e4.
  function path(squared) {
    const sums = new Float64Array(size);
    for (let i = 0; i < squared.length; i++) if (ring[i] < size) sums[ring[i]] += squared[i];
    const points = [];
    for (let r = 1; r < size; r++) {
      const level = Math.log10(Math.max(sums[r] / inRing[r], 1e-8));
      points.push(((200 * Math.log(r)) / Math.log(size - 1)).toFixed(1) + " " + (10 * (4 - level)).toFixed(1));
    }
    return "M" + points.join("L");
  }

  // 0 at the left end; then widths on a logarithmic scale, from 0.3 pixels to the whole picture.
  function width() {
    const place = Number(slider.value) - 1;
    return place < 0 ? 0 : 0.3 * (size / 0.3) ** (place / (slider.max - 1));
  }

  function show() {
    const time = width() ** 2 / 2;
    const decay = Float64Array.from({ length: size }, function (_, n) {
      return Math.exp(-time * ((Math.PI * n) / size) ** 2);
    });
    // What has decayed to less than a millionth changes no pixel.
    const kept = decay.filter(function (factor) { return factor > 1e-6; }).length;
    const image = screen.createImageData(size, size);
    coefficients.forEach(function (y, channel) {
      const melted = y.map(function (value, i) {
        return value * decay[Math.floor(i / size)] * decay[i % size];
      });
      const u = product(inverse, product(melted, basis, kept, kept, size), size, kept, size);
      for (let i = 0; i < u.length; i++) image.data[4 * i + channel] = Math.round(255 * u[i]);
    });
    for (let i = 3; i < image.data.length; i += 4) image.data[i] = 255;
    screen.putImageData(image, 0, 0);
    const squared = power(decay);
    box.querySelector(".now").setAttribute("d", path(squared));
    const left = squared.filter(function (value) { return value > sigma ** 2; }).length;
    const blur = width() < 10 ? width().toFixed(1) : width().toFixed(0);
    const share = left.toLocaleString("en") + " of " + (size * size).toLocaleString("en");
    box.querySelector(".blur").textContent = blur;
    box.querySelector(".left").textContent = share;
    box.dataset.width = width();
    slider.setAttribute("aria-valuetext", "blur of " + blur + " pixels, " + share + " frequencies left");
  }

  let waiting = false;
  slider.addEventListener("input", function () {
    if (!waiting) requestAnimationFrame(function () { waiting = false; show(); });
    waiting = true;
  });

  function open(file) {
    createImageBitmap(file).then(take).then(
      function () { told.textContent = "Melting " + file.name; },
      function () { told.textContent = file.name + " is not a picture that this browser can read"; }
    );
  }
  chooser.addEventListener("change", function () { if (chooser.files[0]) open(chooser.files[0]); });
  box.addEventListener("dragover", function (event) { event.preventDefault(); });
  box.addEventListener("drop", function (event) {
    event.preventDefault();
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });

  const photograph = new Image();
  photograph.addEventListener("load", function () { take(photograph); });
  photograph.src = canvas.dataset.src;
});
