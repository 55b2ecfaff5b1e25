import { describe, expect, it } from '@jest/globals';
import { OwnerTokens } from '../../lib/engine/owner-tokens.js';
import { uuidOfHex, uuidText } from '../../lib/engine/uuid.js';

/** More than are drawn at once, twice over. */
const MANY = 300;

describe('owner tokens', () => {
  it('are UUIDs to Postgres, and new every time', () => {
    const owners = new OwnerTokens();
    const tokens = Array.from({ length: MANY }, () => owners.next());
    for (const token of tokens) expect(token).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(new Set(tokens).size).toBe(MANY);
  });

  it('have all their digits to themselves', () => {
    const owners = new OwnerTokens();
    const digits = Array.from({ length: MANY }, () => owners.next().replaceAll('-', ''));
    digits.slice(1).forEach((token, i) => expect(digits[i]).not.toContain(token.slice(0, 16)));
  });

  it('are drawn by each engine for itself', () => {
    expect(new OwnerTokens().next()).not.toBe(new OwnerTokens().next());
  });
});

describe('the text of 16 bytes', () => {
  const bytes = Buffer.from('00112233445566778899aabbccddeeff', 'hex');

  it('has every digit in its place', () => {
    expect(uuidText(bytes)).toBe('00112233-4455-6677-8899-aabbccddeeff');
  });

  it('leaves out what is before and behind them', () => {
    expect(uuidOfHex(`ffff${bytes.toString('hex')}ffff`, 4)).toBe('00112233-4455-6677-8899-aabbccddeeff');
  });
});
