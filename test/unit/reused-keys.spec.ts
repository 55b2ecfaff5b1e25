import { describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { MANY_REUSES, ReusedKeys } from '../../lib/engine/reused-keys.js';

const HANDLER = 'Payments.create';
const another = (): Buffer => randomBytes(32);

/** How often it complains of `count` refusals. */
function complaints(reused: ReusedKeys, count: number, note: (n: number) => [handler: string, key: string, fingerprint: Buffer]): number {
  return Array.from({ length: count }, (_, n) => reused.note(...note(n))).filter((told) => told !== undefined).length;
}

describe('a key that comes with one request after the other', () => {
  it('is complained of once for each handler, by its digest', () => {
    const reused = new ReusedKeys();
    expect(complaints(reused, MANY_REUSES - 1, () => [HANDLER, 'my-key', another()])).toBe(0);
    const digest = reused.note(HANDLER, 'my-key', another());
    expect(digest).toMatch(/^[0-9a-f]{16}$/);
    expect(complaints(reused, 100, () => [HANDLER, 'my-key', another()])).toBe(0);
    expect(complaints(reused, 100, () => ['Orders.create', 'my-key', another()])).toBe(1);
  });

  it('is found among others', () => {
    expect(complaints(new ReusedKeys(), 100, (n) => [HANDLER, n % 3 === 0 ? `other ${n}` : 'my-key', another()])).toBe(1);
  });

  it('is nothing that many keys make together', () => {
    expect(complaints(new ReusedKeys(), 1000, (n) => [HANDLER, `key ${n}`, another()])).toBe(0);
    expect(complaints(new ReusedKeys(), 1000, (n) => [HANDLER, `key ${n % 5}`, another()])).toBe(0);
  });

  it('is nothing that one stubborn request makes', () => {
    const same = another();
    expect(complaints(new ReusedKeys(), 1000, () => [HANDLER, 'my-key', same])).toBe(0);
  });
});
