/** Turns this library's errors into what a user's own exception filters know. */
import { HttpException } from '@nestjs/common';
import type { Logger } from '@nestjs/common';
import type { IdempotencyError } from '../contract/errors.js';
import { problemOf } from '../http/problem-details.js';
import type { ErrorFormat } from '../http/problem-details.js';
import type { ResponseDoor } from '../http/request-facts.js';
import { reasonOf } from './reason.js';

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

/**
 * What the client is not told and a developer needs: the remedy of a mistake in the application, and
 * what Postgres refused. A database's message may quote values of the row, so its code and names are told.
 */
export function logForDevelopers(logger: Logger, handler: string, error: IdempotencyError): void {
  if ('remedy' in error && typeof error.remedy === 'string') logger.error(`${handler}: ${error.code}. ${error.remedy}`);
  else if (error.status === 500) logger.error(`${handler}: ${error.code}. ${error.message} ${reasonOf(error.cause)}`.trimEnd());
}
