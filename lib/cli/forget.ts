/** Frees a key, or all keys of a scope, whatever stands there. What is running stays. */
import type { RecordRef } from '../contract/record.js';
import type { Ask } from './asking.js';
import { withTables, type Access } from './database.js';
import { EXIT } from './exit-codes.js';
import { ABSENT, identityOf, inUse, summaryText } from './reference.js';
import type { Report } from './report.js';
import { printable } from './table.js';
import { counted } from './wording.js';

/** Rows read in one statement: a bite that holds no vacuum or replica back. */
const BITE = 1000;

/** @param ask `undefined`: nobody is there to be asked, or has answered already */
export function forget(access: Access, ref: RecordRef, ask: Ask | undefined): Promise<Report> {
  return withTables(access, async ({ store }) => {
    const identity = identityOf(ref);
    if (ask !== undefined) {
      const record = await store.find(identity);
      if (record === undefined) return absent();
      if (record.state === 'running') throw inUse();
      await ask(summaryText(record, String), 'Forget it? The next request with this key runs again.');
    }
    switch (await store.forget(identity)) {
      case 'removed':
        return { document: { removed: true }, text: 'The record is gone, and its key is free.' };
      case 'absent':
        return absent();
      case 'live':
        throw inUse();
    }
  });
}

function absent(): Report {
  return { document: { removed: false }, text: ABSENT, exitCode: EXIT.absent };
}

export function forgetScope(access: Access, scope: string, ask: Ask | undefined): Promise<Report> {
  return withTables(access, async ({ store }) => {
    const name = scope === '' ? 'the space that all share' : `scope "${printable(scope)}"`;
    await ask?.('', `Forget every record of ${name}? The whole table is read for that.`);
    const removed = await store.forgetScope(scope, BITE);
    return { document: { removed }, text: `${counted(removed, 'record')} of ${name} removed.` };
  });
}
