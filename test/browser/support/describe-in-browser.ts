/** Tests that need a browser are skipped where there is none, and say so. */
import { describe } from '@jest/globals';
import { NO_CHROMIUM, chromiumPath } from './chromium.js';

if (chromiumPath === '') process.stderr.write(`Skipped: ${NO_CHROMIUM}\n`);

export const describeInBrowser: typeof describe | typeof describe.skip = chromiumPath === '' ? describe.skip : describe;
