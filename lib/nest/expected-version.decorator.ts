import { createParamDecorator } from '@nestjs/common';
import type { ExecutionContext } from '@nestjs/common';
import { PreconditionInvalid, PreconditionRequired } from '../contract/errors.js';
import type { VersionCondition } from '../contract/version-condition.js';
import { readExchange } from '../http/request-facts.js';
import { readPrecondition, versionsOf } from '../recipes/preconditions.js';

/**
 * Hands `If-Match` to a handler as the versions that `@VersionETag()` made its entity tags of: a
 * number, a list, or `'*'`. Tags that are no such numbers, and weak ones, match nothing; if there are
 * no others the list is empty.
 *
 * @throws PreconditionRequired (428) without the header: a handler that asks for a condition never runs
 *   without one. PreconditionInvalid (400) for a malformed one
 */
export const ExpectedVersion: () => ParameterDecorator = createParamDecorator(
  (_data: undefined, context: ExecutionContext): VersionCondition => {
    const http = context.switchToHttp();
    const condition = readPrecondition(readExchange(http.getRequest(), http.getResponse()).request.header('if-match'));
    switch (condition.kind) {
      case 'absent':
        throw new PreconditionRequired();
      case 'malformed':
        throw new PreconditionInvalid();
      case 'any':
        return '*';
      case 'tags':
        return versionsOf(condition.tags);
    }
  },
);
