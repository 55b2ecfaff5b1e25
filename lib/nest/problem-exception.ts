/** Turns this library's errors into what a user's own exception filters know. */
import { HttpException } from '@nestjs/common';
import type { IdempotencyError } from '../contract/errors.js';
import { problemOf } from '../http/problem-details.js';
import type { ErrorFormat } from '../http/problem-details.js';
import type { ResponseDoor } from '../http/request-facts.js';

/** An `IdempotencyError` on its way to the client. `cause` is the error itself, `code` its code. */
export class IdempotencyException extends HttpException {
  readonly code: string;

  constructor(error: IdempotencyError, body: object) {
    super(body as Record<string, unknown>, error.status, { cause: error });
    this.code = error.code;
    this.message = error.message;
  }
}

/** The exception to throw for `error`; its headers are set on the response, where filters leave them alone. */
export function refusal(error: IdempotencyError, format: ErrorFormat, response: ResponseDoor): IdempotencyException {
  const problem = problemOf(error, format);
  for (const [name, value] of problem.headers) response.setHeader(name, String(value));
  // Frameworks keep a JSON type that is set already, and would say application/json otherwise.
  if (format === 'problem') response.setHeader('content-type', problem.contentType);
  return new IdempotencyException(error, problem.body);
}
