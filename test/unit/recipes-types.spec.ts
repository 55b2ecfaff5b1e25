/**
 * What does not compile: `npm run types` fails where one of the lines below, each marked as an error,
 * is none. Nothing here is ever called.
 */
import { describe, expect, it } from '@jest/globals';
import { LessThan, MoreThanOrEqual } from 'typeorm';
import type { EntityManager } from 'typeorm';
import { VersionETag, compareAndSet, insertOnce, updateVersioned } from '../../lib/index.js';
import type { IdempotentExecution, IdempotencyService, VersionCondition } from '../../lib/index.js';

class Place {
  row!: number;
  seat!: string | null;
}

class Customer {
  id!: string;
}

class Order {
  id!: string;
  state!: 'open' | 'paid';
  quantity!: number;
  note!: string | null;
  comment?: string;
  paidAt!: Date | null;
  place!: Place;
  customer!: Customer;
  tags!: string[];
  version!: number;
  label(): string {
    return this.id;
  }
}

async function right(manager: EntityManager, execution: IdempotentExecution, service: IdempotencyService): Promise<void> {
  const state: Order['state'] = 'open';
  await compareAndSet(execution.manager, Order, { id: '1' }, { state }, { state: 'paid', paidAt: new Date() });
  await compareAndSet(service.manager, Order, { id: '1', paidAt: LessThan(new Date()) }, { note: null }, { note: 'a' });
  await compareAndSet(manager, Order, { id: '1', quantity: MoreThanOrEqual(2) }, { place: { seat: null } }, { place: { row: 2 } });
  await compareAndSet(manager, Order, { id: '1' }, { customer: { id: '2' } }, { comment: null, tags: ['a'] });
  const anyOf: VersionCondition = [1, 2];
  const next: number = await updateVersioned(manager, Order, { id: '1' }, anyOf, { note: null, comment: undefined });
  await updateVersioned(manager, Order, { id: '1' }, '*', { quantity: next }, { column: 'version' });
  const { row, inserted } = await insertOnce(manager, Order, { id: '1', state }, { unique: ['id'] });
  const order: Order = row;
  const isNew: boolean = inserted;
  VersionETag((body) => body.version)({}, 'read', { value: [order, isNew] });
  VersionETag((body: Customer) => body.id)({}, 'read', {});
}

async function wrong(manager: EntityManager): Promise<void> {
  // @ts-expect-error a column that is not there, in where
  await compareAndSet(manager, Order, { idd: '1' }, { note: null }, { note: 'a' });
  // @ts-expect-error a column that is not there, in expected
  await compareAndSet(manager, Order, { id: '1' }, { notes: null }, { note: 'a' });
  // @ts-expect-error a column that is not there, in next
  await compareAndSet(manager, Order, { id: '1' }, { note: null }, { notes: 'a' });
  // @ts-expect-error a value of another type
  await compareAndSet(manager, Order, { id: '1' }, { quantity: '2' }, { note: 'a' });
  // @ts-expect-error a state that there is not
  await compareAndSet(manager, Order, { id: '1' }, { state: 'open' }, { state: 'piad' });
  // @ts-expect-error null where the column has none
  await compareAndSet(manager, Order, { id: '1' }, { quantity: 1 }, { quantity: null });
  // @ts-expect-error an operator of another type
  await compareAndSet(manager, Order, { id: '1', quantity: LessThan('2') }, { note: null }, { note: 'a' });
  // @ts-expect-error an operator outside where
  await compareAndSet(manager, Order, { id: '1' }, { quantity: LessThan(2) }, { note: 'a' });
  // @ts-expect-error an embedded column that is not there
  await compareAndSet(manager, Order, { id: '1' }, { place: { raw: 1 } }, { note: 'a' });
  // @ts-expect-error a method is no column
  await compareAndSet(manager, Order, { id: '1' }, { note: null }, { label: () => 'a' });
  // @ts-expect-error SQL is no value
  await compareAndSet(manager, Order, { id: '1' }, { note: null }, { quantity: () => 'quantity - 1' });
  // @ts-expect-error a column that is not there, in changes
  await updateVersioned(manager, Order, { id: '1' }, 1, { notes: 'a' });
  // @ts-expect-error a version is a number
  await updateVersioned(manager, Order, { id: '1' }, '1', { note: 'a' });
  // @ts-expect-error a condition is always needed
  await updateVersioned(manager, Order, { id: '1' }, undefined, { note: 'a' });
  // @ts-expect-error a version column that is not there
  await updateVersioned(manager, Order, { id: '1' }, 1, { note: 'a' }, { column: 'revision' });
  // @ts-expect-error a column that is not there, in row
  await insertOnce(manager, Order, { id: '1', colour: 'red' }, { unique: ['id'] });
  // @ts-expect-error a unique column that is not there
  await insertOnce(manager, Order, { id: '1' }, { unique: ['reference'] });
  // @ts-expect-error a method is not unique
  await insertOnce(manager, Order, { id: '1' }, { unique: ['label'] });
  // @ts-expect-error no version
  VersionETag((body: Order) => body.paidAt);
  // @ts-expect-error what has no version by that name must say its type
  VersionETag((body) => body.revision);
}

describe('the types of the recipes', () => {
  it('stand for themselves: this file compiles', () => {
    expect([right, wrong]).toHaveLength(2);
  });
});
