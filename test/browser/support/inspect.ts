/** What can be found out about a page by measuring it, beside what it says. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright-core';

export interface Contrast {
  readonly seen: number;
  readonly faint: readonly string[];
}

export interface Overflow {
  readonly scrolls: boolean;
  readonly beyond: readonly string[];
}

export interface Focus {
  /** The id of what has the focus, else its value or text. */
  readonly name: string;
  readonly isVisible: boolean;
}

interface AccessibleNode {
  readonly role: string;
  readonly name: string;
  readonly level: number | undefined;
}

export const contrastOf = (page: Page): Promise<Contrast> => measured(page, 'faint-texts');
export const overflowOf = (page: Page): Promise<Overflow> => measured(page, 'overflowing');
export const focusOf = (page: Page): Promise<Focus | undefined> => measured(page, 'focus');

/** What a screen reader is told of the page, as Chromium itself computes it. */
export async function accessibleNodesOf(page: Page): Promise<AccessibleNode[]> {
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send('Accessibility.getFullAXTree');
  await session.detach();
  return nodes
    .filter(({ ignored }) => !ignored)
    .map(({ role, name, properties }) => ({
      role: String(role?.value),
      name: String(name?.value ?? '').trim(),
      level: properties?.find((property) => property.name === 'level')?.value.value as number | undefined,
    }));
}

/** The scripts are handed over as they are: the page's own policy would keep them from being loaded. */
async function measured<Result>(page: Page, script: string): Promise<Result> {
  const source = await readFile(fileURLToPath(new URL(`../in-page/${script}.js`, import.meta.url)), 'utf8');
  return page.evaluate<Result>(source);
}
