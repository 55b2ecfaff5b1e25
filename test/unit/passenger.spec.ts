/** A statement that goes along in a trip, on a driver that is told by the test what Postgres says. */
import { describe, expect, it } from '@jest/globals';
import { EventEmitter } from 'node:events';
import type { PoolClient } from 'pg';
import { Passenger, canGoAlong, takesAlong } from '../../lib/store/passenger.js';
import { BEGIN } from '../../lib/store/statements.js';
import { Trip } from '../../lib/store/trip.js';

class Wire extends EventEmitter {
  readonly sent: string[] = [];
  readonly parsedStatements: Record<string, string> = {};
  readonly submittedNamedStatements: Record<string, string> = {};
  corks = 0;
  destroyed = false;
  readonly stream = {
    cork: () => void (this.corks += 1),
    uncork: () => void (this.corks -= 1),
    destroy: () => void (this.destroyed = true),
  };
  close = (): void => void this.sent.push('close');
  parse = (): void => void this.sent.push('parse');
  bind = (): void => void this.sent.push('bind');
  execute = (): void => void this.sent.push('execute');
  sync = (): void => void this.sent.push('sync');
}

/** As the driver makes it of a text with values. */
class Asked {
  name: string | undefined;
  text = 'select $1';
  rows = 0;
  fault: Error | null = null;
  readonly told: unknown[] = [];
  requiresPreparation = (): boolean => true;
  submit(wire: Wire): Error | null {
    if (this.fault === null) wire.sent.push('asked', 'sync');
    return this.fault;
  }
  handleError = (error: unknown): void => void this.told.push(error);
}

function board(asked: readonly Asked[], changes: Partial<Wire> = {}) {
  const wire = Object.assign(new Wire(), changes);
  const queue: Asked[] = [];
  const passenger = new Passenger();
  const trip = new Trip([{ statement: BEGIN }], true, passenger);
  const client = { connection: wire, _queryQueue: queue, query: () => trip.submit(wire as never) } as unknown as PoolClient;
  const outcomes: unknown[] = [];
  trip.on(
    client,
    ({ command }) => outcomes.push(command),
    (error) => outcomes.push(error),
  );
  expect([passenger.isWaitedFor(), wire.corks, wire.sent.includes('sync')]).toEqual([true, 1, false]);
  queue.push(...asked);
  passenger.board(client);
  const begun = (): void => trip.handleCommandComplete({ text: 'BEGIN' }, wire as never);
  return { wire, queue, passenger, trip, outcomes, begun };
}

const OURS = ['close', 'parse', 'bind', 'execute'];
const GONE = new Error('gone');
const REFUSED = Object.assign(new Error('refused'), { severity: 'ERROR', code: '23505' });
const nextTick = () => new Promise<void>((resolve) => process.nextTick(resolve));

describe('a passenger', () => {
  it('leaves with ours, before one “Sync”', () => {
    const { wire, queue } = board([new Asked()]);
    expect([wire.sent, wire.corks, queue]).toEqual([[...OURS, 'asked', 'sync'], 0, []]);
  });

  it.each<[string, () => Asked[]]>([
    ['is none', () => []],
    ['are two', () => [new Asked(), new Asked()]],
    ['has a limit of rows', () => [Object.assign(new Asked(), { rows: 1 })]],
    ['may be several statements', () => [Object.assign(new Asked(), { requiresPreparation: () => false })]],
    ['is none of the driver’s own', () => [Object.assign(new Asked(), { requiresPreparation: undefined })]],
  ])('stays behind where there %s, and is not carried out after ours have failed', (_what, asked) => {
    const { wire, queue, trip, outcomes } = board(asked());
    expect([wire.sent, wire.corks, queue.length]).toEqual([[...OURS, 'sync'], 0, asked().length]);
    trip.handleError(REFUSED, wire as never);
    expect([wire.destroyed, outcomes]).toEqual([true, [REFUSED]]);
  });

  it('that the driver won’t write is told so, and ours leave', async () => {
    const asked = Object.assign(new Asked(), { fault: GONE });
    const { wire, trip, passenger } = board([asked]);
    expect([wire.sent, asked.told]).toEqual([[...OURS, 'sync'], []]);
    await nextTick();
    trip.handleError(REFUSED, wire as never);
    passenger.refuse(REFUSED);
    expect([asked.told, wire.destroyed]).toEqual([[GONE], false]);
  });

  it('whose turn did not come leaves its name free, and is told by whoever knows why', () => {
    const asked = Object.assign(new Asked(), { name: 'one' });
    const { wire, trip, passenger } = board([asked]);
    wire.submittedNamedStatements['one'] = asked.text;
    expect(trip.name).toBeUndefined();
    trip.handleError(REFUSED, wire as never);
    expect([wire.submittedNamedStatements, asked.told, wire.destroyed]).toEqual([{}, [], false]);
    passenger.refuse(GONE);
    expect(asked.told).toEqual([GONE]);
  });

  it('may go along again, without anybody waiting for it', () => {
    const { wire, passenger } = board([new Asked()]);
    wire.sent.length = 0;
    new Trip([{ statement: BEGIN }], true, passenger).submit(wire as never);
    expect([wire.sent, wire.corks]).toEqual([[...OURS, 'asked', 'sync'], 0]);
  });

  it('gives the trip its name and text once ours are answered', () => {
    const asked = Object.assign(new Asked(), { name: 'one' });
    const { trip, begun } = board([asked]);
    expect([trip.name, trip.text]).toEqual([undefined, BEGIN.text.trim()]);
    begun();
    expect([trip.name, trip.text]).toEqual(['one', asked.text]);
  });

  it('that Postgres refuses is told at once, and the trip arrives when Postgres is ready', () => {
    for (const end of ['readyForQuery', 'end']) {
      const asked = new Asked();
      const { wire, trip, outcomes, begun } = board([asked]);
      begun();
      trip.handleError(REFUSED, wire as never);
      expect([asked.told, outcomes]).toEqual([[REFUSED], []]);
      wire.emit(end);
      expect([outcomes, wire.eventNames()]).toEqual([['BEGIN'], []]);
    }
  });

  it('that is lost with its connection is told once, and the trip fails', () => {
    const asked = new Asked();
    const { wire, trip, outcomes, passenger, begun } = board([asked]);
    begun();
    trip.handleError(GONE, wire as never);
    passenger.refuse(REFUSED);
    expect([asked.told, outcomes, wire.eventNames()]).toEqual([[GONE], [GONE], []]);
  });

  it('is not waited for where ours are not written at once', () => {
    const wire = new Wire();
    const passenger = new Passenger();
    expect(passenger.isWaitedFor()).toBe(false);
    passenger.refuse(GONE);
    const trip = new Trip([{ statement: BEGIN }], true, passenger);
    trip.submit(wire as never);
    expect([wire.sent, wire.corks]).toEqual([[...OURS, 'sync'], 0]);
    trip.handleError(REFUSED, wire as never);
    expect(wire.destroyed).toBe(false);
  });
});

describe('what can go along', () => {
  it.each<[boolean, unknown[]]>([
    [true, ['select $1', [1]]],
    [true, ['select $1', [1], () => undefined]],
    [true, [{ text: 'select $1', values: [1] }]],
    [true, [{ text: 'select $1' }, [1]]],
    [true, [{ text: 'select 1', name: 'one' }]],
    [false, ['select 1; select 2']],
    [false, ['select 1; select 2', []]],
    [false, ['select 1; select 2', () => undefined]],
    [false, [{ text: 'select 1; select 2', name: '' }]],
    [false, [{ text: 'select 1; select 2', values: [] }, [1]]],
    [false, [{ text: 'select $1', values: [1], rows: 1 }]],
    [false, [{ text: 'select $1', values: [1], submit: () => undefined }]],
    [false, [null]],
    [false, []],
  ])('%s: %j', (can, sent) => expect(canGoAlong(sent)).toBe(can));

  it.each<[boolean, object]>([
    [true, { connection: new Wire(), _queryQueue: [] }],
    [true, { connection: new Wire(), queryQueue: [], pipeline: false }], // 8.7
    [false, { connection: new Wire(), _queryQueue: [], pipeline: true }],
    [false, { connection: new Wire() }],
    [false, { connection: new Wire(), _queryQueue: new Set() }],
    [false, { connection: {}, _queryQueue: [] }],
    [false, { _queryQueue: [] }],
  ])('is taken by a connection (%s, %#)', (takes, client) => expect(takesAlong(client as PoolClient)).toBe(takes));
});
