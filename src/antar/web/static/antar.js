// The little that a page cannot do without a script: forms that answer at once, figures saved as PNG, and keys.
// Every page works without it.
"use strict";

// A select with `data-submit` sends its form as soon as it changes, so that a filter needs no second step.
document.addEventListener("change", (event) => {
  const control = event.target;
  if (control instanceof HTMLElement && control.matches("[data-submit]") && control.form) control.form.requestSubmit();
});

// Empty fields are left out of the address, so that a view that is shared is short.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || form.method !== "get") return;
  for (const control of form.elements) {
    if (control.name && control.value === "" && !control.disabled) {
      control.disabled = true;
      setTimeout(() => { control.disabled = false; }, 0);
    }
  }
});

// A link with `data-png` saves the SVG that it leads to as a PNG, drawn by the browser with its own fonts.
document.addEventListener("click", async (event) => {
  const link = event.target instanceof Element ? event.target.closest("a[data-png]") : null;
  if (!link) return;
  event.preventDefault();
  const answer = await fetch(link.href);
  if (!answer.ok) return;
  const text = await answer.text();
  const image = new Image();
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  await image.decode();
  const canvas = document.createElement("canvas");
  const scale = 3;
  canvas.width = image.naturalWidth * scale;
  canvas.height = image.naturalHeight * scale;
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  const saved = document.createElement("a");
  saved.href = canvas.toDataURL("image/png");
  saved.download = link.dataset.png;
  saved.click();
});

// A link with `data-key` is followed by that key, unless something is being typed.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const at = event.target;
  if (at instanceof Element && at.closest("input, textarea, select, [contenteditable], .scroll")) return;
  for (const link of document.querySelectorAll("[data-key]")) {
    if (link.dataset.key === event.key) {
      event.preventDefault();
      if (link.matches("a")) link.click();
      else link.focus();
      return;
    }
  }
});
