/** A record for an operator's eyes. What the client was told is shown only when that is asked for. */
import { RecordUnreadable } from '../contract/errors.js';
import type { RecordRef } from '../contract/record.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import type { Sealing } from '../engine/sealing.js';
import { writtenAnswer } from './answer-file.js';
import { withTables, type Access, type Database } from './database.js';
import { CliError, EXIT } from './exit-codes.js';
import { ABSENT, identityOf, summaryText } from './reference.js';
import type { Report } from './report.js';
import { facts, printableLines, table } from './table.js';
import { counted, grouped } from './wording.js';

/** @param sealing what opens the answer; `undefined`: it is not asked for */
export function show(access: Access, ref: RecordRef, sealing: Sealing | undefined, heading: (text: string) => string): Promise<Report> {
  return withTables(access, async (database) => {
    const record = await database.store.find(identityOf(ref));
    if (record === undefined) return { document: null, text: ABSENT, exitCode: EXIT.absent };
    const summary = summaryText(record, heading);
    if (sealing === undefined) return { document: record, text: summary };
    const answer = await answerOf(database, ref, sealing);
    return {
      document: { ...record, answer: answer === undefined ? null : writtenAnswer(answer) },
      text: `${summary}\n\n${answerText(answer, heading)}`,
    };
  });
}

async function answerOf({ store }: Database, ref: RecordRef, sealing: Sealing): Promise<RecordedResponse | undefined> {
  const identity = identityOf(ref);
  try {
    const answer = await store.answer(identity);
    return answer && sealing.openAnswer(identity.id, answer);
  } catch (error) {
    if (!(error instanceof RecordUnreadable)) throw error;
    throw new CliError(
      error.code,
      EXIT.failed,
      `The answer of this record can't be read. ${error.remedy ?? 'A newer version may have written it.'}`,
    );
  }
}

function answerText(answer: RecordedResponse | undefined, heading: (text: string) => string): string {
  if (answer === undefined) return 'It has no answer that could be shown.';
  const { status, headers, body } = answer;
  const lines = headers.flatMap(([name, value]) => [value].flat().map((line) => [name, line] as const));
  const written = writtenAnswer(answer);
  const content =
    body.length === 0
      ? 'The body is empty.'
      : 'body' in written
        ? printableLines(written.body)
        : `The body is binary: ${counted(body.length, 'byte')}.`;
  return [facts([['Answer', `${status}, ${grouped(body.length)} bytes`], ...lines], heading), content].join('\n\n');
}

/** The oldest ones first: those that have waited longest for somebody to look. */
export function showLost(access: Access, most: number, heading: (text: string) => string): Promise<Report> {
  return withTables(access, async ({ store }) => {
    const records = await store.lost(most);
    const columns = ['Lease ran out', 'Scope', 'Operation', 'Key', 'Attempt', 'Steps'].map((title) => ({ title }));
    const rows = records.map(({ lockedUntil, scope, operation, key, attempt, steps }) => [
      lockedUntil?.toISOString() ?? '',
      scope === '' ? '""' : scope,
      operation === '' ? '""' : operation,
      key,
      String(attempt),
      steps.join(', '),
    ]);
    return { document: records, text: records.length === 0 ? 'No record is lost.' : table(columns, rows, heading) };
  });
}
