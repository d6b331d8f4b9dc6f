// Before the first paint, so that the page does not flash in the other theme.
(() => {
  let theme = null;
  try { theme = localStorage.getItem("scoresde-theme"); } catch { /* files may have no storage */ }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
