/** The system's own Chromium, for what needs a real browser. */
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';
import type { Browser } from 'playwright-core';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/usr/bin/google-chrome-stable'];

/** It runs as whoever runs the tests, root too, without a display, and calls nobody. */
const ARGUMENTS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Empty where there is none. An empty CHROMIUM_PATH does without; one that leads nowhere is a mistake, and fails. */
export const chromiumPath = process.env['CHROMIUM_PATH'] ?? PLACES.find((place) => existsSync(place)) ?? '';

export const NO_CHROMIUM = 'There is no Chromium. Install it (on Debian: apt-get install chromium), or say where it is in CHROMIUM_PATH.';

/** @param extra arguments */
export function launchChromium(extra: readonly string[] = []): Promise<Browser> {
  return chromium.launch({ executablePath: chromiumPath, args: [...ARGUMENTS, ...extra] });
}
