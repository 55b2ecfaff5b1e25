import { describe, expect, it } from '@jest/globals';
import { KeyInUse, KeyInvalid, OutcomeUnknown } from '../../lib/contract/errors.js';
import { problemOf, problemResponse } from '../../lib/http/problem-details.js';

describe('problemOf', () => {
  it('words an error as RFC 9457 has it', () => {
    const error = new KeyInvalid('is empty');
    expect(problemOf(error, 'problem')).toEqual({
      status: 400,
      headers: [['cache-control', 'no-store']],
      contentType: 'application/problem+json',
      body: {
        type: 'https://www.npmjs.com/package/nestjs-idempotency-pg#idempotency_key_invalid',
        title: 'Idempotency key is not valid',
        status: 400,
        detail: 'The idempotency key is empty.',
        code: 'IDEMPOTENCY_KEY_INVALID',
      },
    });
  });

  it('words it as Nest does, where that is asked for', () => {
    expect(problemOf(new OutcomeUnknown(), 'nest')).toMatchObject({
      status: 409,
      contentType: 'application/json',
      body: { statusCode: 409, error: 'Conflict', code: 'IDEMPOTENCY_OUTCOME_UNKNOWN', message: expect.any(String) },
    });
  });

  it('tells when to try again, in whole seconds, where that makes sense', () => {
    expect(problemOf(new KeyInUse(1_200), 'problem').headers).toEqual([
      ['cache-control', 'no-store'],
      ['retry-after', '2'],
    ]);
  });
});

describe('problemResponse', () => {
  it('is the same as a whole answer', () => {
    const { status, headers, body } = problemResponse(new KeyInUse(1_000), 'problem');
    expect(status).toBe(409);
    expect(headers).toEqual([
      ['content-type', 'application/problem+json'],
      ['cache-control', 'no-store'],
      ['retry-after', '1'],
    ]);
    expect(JSON.parse(body.toString())).toEqual(problemOf(new KeyInUse(1_000), 'problem').body);
  });
});
