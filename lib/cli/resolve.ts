/** Settles a lost, open or sealed record by hand, once somebody has found out what was done. */
import { AnswerStands } from '../contract/errors.js';
import type { RecordRef } from '../contract/record.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import type { Sealing } from '../engine/sealing.js';
import type { Ask } from './asking.js';
import { withTables, type Access } from './database.js';
import { CliError, EXIT } from './exit-codes.js';
import { ABSENT, identityOf, inUse, summaryText } from './reference.js';
import type { Report } from './report.js';
import { assertSealsAlike } from './sealing.js';

export interface Resolution {
  /** `undefined`: the key is freed. */
  readonly answer: RecordedResponse | undefined;
  /** How long that is replayed. */
  readonly retentionMs: number;
  readonly sealing: Sealing;
}

export function resolve(
  access: Access,
  ref: RecordRef,
  { answer, retentionMs, sealing }: Resolution,
  ask: Ask | undefined,
): Promise<Report> {
  return withTables(access, async ({ store }) => {
    const identity = identityOf(ref);
    if (answer !== undefined) await assertSealsAlike(store, sealing);
    if (ask !== undefined) {
      const record = await store.find(identity);
      if (record === undefined) return absent();
      if (record.state === 'running') throw inUse();
      if (record.state === 'completed') throw answerStands();
      await ask(
        summaryText(record, String),
        answer === undefined
          ? 'Free its key? The next request runs the handler again, from the start.'
          : `Give it the answer ${answer.status} (${answer.body.length} bytes)? Every later request gets that, and it can't be replaced.`,
      );
    }
    switch (await store.resolve(identity, answer && sealing.sealAnswer(identity.id, answer), retentionMs)) {
      case 'resolved':
        return { document: { resolved: true }, text: answer === undefined ? 'Its key is free.' : 'It is completed with that answer.' };
      case 'absent':
        return absent();
      case 'live':
        throw inUse();
      case 'completed':
        throw answerStands();
    }
  });
}

function absent(): Report {
  return { document: { resolved: false }, text: ABSENT, exitCode: EXIT.absent };
}

function answerStands(): CliError {
  const { code, message } = new AnswerStands();
  return new CliError(code, EXIT.refused, message);
}
