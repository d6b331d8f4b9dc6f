// Names for those who cannot see the page, where Gradio gives none or one that differs from what is
// shown. Parts come and go, so this is done again whenever the page changes.
() => {
  const name = () => {
    for (const image of document.querySelectorAll(".result img")) {
      const label = image.closest(".result").querySelector("label");
      if (label && image.alt !== label.innerText) image.alt = label.innerText;
    }
    const others = "button.upload-container[aria-label], div[aria-label]:not([role])";
    for (const one of document.querySelectorAll(others)) {
      one.removeAttribute("aria-label");  // its text says the same, or it may have none
    }
  };
  new MutationObserver(name).observe(
    document.body, { childList: true, subtree: true, characterData: true },
  );
  name();
}
