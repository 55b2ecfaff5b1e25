/** Every text that can be seen, and has a contrast below 4.5:1 to what is behind it (WCAG 2.2, 1.4.3). Grounds must be opaque. */
(() => {
  const LEAST = 4.5;

  /** @param {string} colour as `getComputedStyle` has it @returns {number[]} */
  const parts = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);

  /** @param {number[]} rgb */
  const luminance = (rgb) => {
    const [red = 0, green = 0, blue = 0] = rgb.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };

  /** @param {Element | null} element @returns {number[]} */
  const groundOf = (element) => {
    if (element === null) return [255, 255, 255];
    const [red = 0, green = 0, blue = 0, alpha = 1] = parts(getComputedStyle(element).backgroundColor);
    if (alpha === 0) return groundOf(element.parentElement);
    if (alpha < 1) throw new Error(`A ground is half transparent: ${element.outerHTML.slice(0, 80)}`);
    return [red, green, blue];
  };

  /** @param {Element} element */
  const contrastOf = (element) => {
    const [light = 0, dark = 0] = [luminance(parts(getComputedStyle(element).color).slice(0, 3)), luminance(groundOf(element))].sort(
      (one, other) => other - one,
    );
    return (light + 0.05) / (dark + 0.05);
  };

  /** @param {Element} element */
  const isSeen = (element) => {
    const { width, height } = element.getBoundingClientRect();
    return element.checkVisibility() && width > 1 && height > 1;
  };

  const holders = new Set(document.querySelectorAll('input:not([type=radio]), textarea, select'));
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode() !== null) {
    const { parentElement, textContent } = texts.currentNode;
    if (parentElement !== null && textContent?.trim() && !['NOSCRIPT', 'OPTION'].includes(parentElement.tagName))
      holders.add(parentElement);
  }
  const seen = [...holders].filter(isSeen);
  const faint = seen.filter((element) => contrastOf(element) < LEAST);
  return { seen: seen.length, faint: faint.map((element) => `${contrastOf(element).toFixed(2)}: ${element.outerHTML.slice(0, 120)}`) };
})();
