// Arrow keys walk through what a search field found, which stays as it is meanwhile; errors of a
// request are shown as the page.
"use strict";

document.addEventListener("keydown", (event) => {
  const form = event.target.closest?.("form[role=search]");
  if (!form || !["ArrowDown", "ArrowUp", "Escape"].includes(event.key)) return;
  const stops = [form.querySelector("input:not([type=hidden])"), ...form.querySelectorAll(".found a")];
  const place = stops.indexOf(event.target);
  if (place < 0 || stops.length < 2) return;
  event.preventDefault();
  const step = { ArrowDown: 1, ArrowUp: -1, Escape: -place }[event.key];
  stops[Math.min(stops.length - 1, Math.max(0, place + step))].focus();
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr, target } = event.detail;
  if (xhr.status < 400) {
    if (target.matches(".found") && target.contains(document.activeElement)) event.detail.shouldSwap = false;
    return;
  }
  event.detail.shouldSwap = true;
  event.detail.target = document.getElementById("main");
  event.detail.selectOverride = "#main";
  event.detail.swapOverride = "outerHTML";
});
