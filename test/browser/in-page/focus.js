/** Where the focus is, and whether it can be seen there. A radio button is drawn by the text beside it. */
(() => {
  const { activeElement } = document;
  const drawn = activeElement?.matches('input[type=radio]') ? activeElement.nextElementSibling : activeElement;
  if (activeElement === null || drawn === null || activeElement === document.body) return undefined;
  const { outlineStyle, outlineWidth } = getComputedStyle(drawn);
  const name = activeElement.id || activeElement.getAttribute('value') || activeElement.textContent;
  return { name: name?.trim() ?? '', isVisible: outlineStyle !== 'none' && Number.parseFloat(outlineWidth) >= 2 };
})();
