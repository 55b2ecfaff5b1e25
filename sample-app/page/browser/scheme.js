/** Light or dark: as the system says, until the visitor says otherwise. */
import { byId } from './elements.js';

const STORED = 'colour-scheme';

export function followScheme() {
  const system = matchMedia('(prefers-color-scheme: dark)');
  const toggle = byId('scheme');
  const isDark = () => (localStorage.getItem(STORED) ?? (system.matches ? 'dark' : 'light')) === 'dark';
  const show = () => {
    document.documentElement.dataset['scheme'] = isDark() ? 'dark' : 'light';
    toggle.setAttribute('aria-pressed', String(isDark()));
  };
  toggle.addEventListener('click', () => {
    const wanted = isDark() ? 'light' : 'dark';
    if (wanted === (system.matches ? 'dark' : 'light')) localStorage.removeItem(STORED);
    else localStorage.setItem(STORED, wanted);
    show();
  });
  system.addEventListener('change', show);
  show();
}
