"use strict";
(() => {
  const root = document.documentElement;
  const spoken = document.getElementById("spoken");
  let waiting = 0;
  // For screen readers; a moving pointer must not flood them.
  window.say = (text) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { spoken.textContent = text; }, 350);
  };

  const button = document.getElementById("theme");
  const names = { system: "as the system", light: "light", dark: "dark" };
  const order = ["system", "light", "dark"];
  const show = () => {
    button.textContent = `Theme: ${names[root.dataset.theme || "system"]}`;
  };
  button.addEventListener("click", () => {
    const now = root.dataset.theme || "system";
    const next = order[(order.indexOf(now) + 1) % order.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    try { localStorage.setItem("scoresde-theme", next); } catch { /* files may have no storage */ }
    show();
  });
  show();

  for (const copy of document.querySelectorAll(".copy")) {
    copy.addEventListener("click", async () => {
      const from = document.getElementById(copy.dataset.from);
      try {
        await navigator.clipboard.writeText(from.textContent);
      } catch {
        const range = document.createRange();
        range.selectNodeContents(from);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        document.execCommand("copy");
      }
      copy.textContent = "Copied";
      window.say("Copied");
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    });
  }
})();
