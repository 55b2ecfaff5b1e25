/** How the end of a record goes over the line within a transaction, whichever statement writes it. */
import type { LastWrite } from '../contract/transaction.js';
import { writeHeaders } from './rows.js';
import type { Value } from './session.js';

export function valuesOf(last: LastWrite): readonly Value[] {
  const { id, owner } = last.ownership;
  switch (last.kind) {
    case 'complete':
      return [id, owner, String(last.answer.status), writeHeaders(last.answer.headers), last.answer.body, String(last.retentionMs)];
    case 'seal':
      return [id, owner, last.status === undefined ? null : String(last.status), String(last.retentionMs)];
    case 'release':
      return [id, owner, String(last.retentionMs)];
  }
}
