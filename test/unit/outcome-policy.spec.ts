import { describe, expect, it, jest } from '@jest/globals';
import { outcomePolicy } from '../../lib/engine/outcome-policy.js';

describe('outcomePolicy', () => {
  const unheard = (error: unknown): never => {
    throw error;
  };

  it.each([200, 201, 204, 302, 304, 400, 402, 404, 409, 410, 412, 422, 451])('keeps %d by default', (status) => {
    expect(outcomePolicy(undefined, unheard)(status)).toBe(true);
  });

  it.each([401, 403, 408, 425, 429, 500, 501, 502, 503, 504, 599])('frees the key after %d by default', (status) => {
    expect(outcomePolicy(undefined, unheard)(status)).toBe(false);
  });

  it.each([200, 401, 429, 500, 503])("keeps %d with 'all'", (status) => {
    expect(outcomePolicy('all', unheard)(status)).toBe(true);
  });

  it('asks the given function and nothing else, with the status and the error', () => {
    const storeIf = jest.fn((status: number) => status === 429);
    const keeps = outcomePolicy(storeIf, unheard);
    const error = new Error('declined');
    expect(keeps(429, error)).toBe(true);
    expect(keeps(200)).toBe(false);
    expect(storeIf.mock.calls).toEqual([
      [429, error],
      [200, undefined],
    ]);
  });

  it('goes by the default where the function throws, so that finished work is not done again, and reports it', () => {
    const failure = new Error('a bug');
    const report = jest.fn();
    const keeps = outcomePolicy(() => {
      throw failure;
    }, report);
    expect(keeps(201)).toBe(true);
    expect(keeps(500)).toBe(false);
    expect(report.mock.calls).toEqual([[failure], [failure]]);
  });

  it('does not take a promise for a yes', () => {
    const report = jest.fn();
    const keeps = outcomePolicy((() => Promise.resolve(false)) as never, report);
    expect(keeps(503)).toBe(false);
    expect(report).toHaveBeenCalledWith(expect.objectContaining({ message: expect.stringMatching(/true or false, and not a promise/) }));
  });
});
