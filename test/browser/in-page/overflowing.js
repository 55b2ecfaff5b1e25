/** Whatever reaches beyond the right edge of the window, so that one would have to scroll sideways. */
(() => {
  const { clientWidth, scrollWidth } = document.documentElement;
  const beyond = [...document.querySelectorAll('body *')].filter(
    (element) => element.checkVisibility() && element.getBoundingClientRect().right > clientWidth + 0.5,
  );
  return { scrolls: scrollWidth > clientWidth, beyond: beyond.map((element) => element.outerHTML.slice(0, 120)) };
})();
