import { createParamDecorator } from '@nestjs/common';
import type { ExecutionContext } from '@nestjs/common';
import type { IdempotentExecution } from '../contract/execution.js';
import { executionFor } from './context.js';

/**
 * Hands the running {@link IdempotentExecution} to an `@Idempotent()` or `@Deduplicate()` handler.
 *
 * @throws Error when the handler is neither, or IdempotencyModule is not imported
 */
export const CurrentExecution: () => ParameterDecorator = createParamDecorator(
  (_data: undefined, context: ExecutionContext): IdempotentExecution => {
    const execution = context.getType() === 'http' ? executionFor(context.switchToHttp().getRequest<object>()) : undefined;
    if (execution === undefined) {
      throw new Error(
        '@CurrentExecution() has nothing to hand over here: put @Idempotent() or @Deduplicate() on the handler and import IdempotencyModule.forRoot().',
      );
    }
    return execution;
  },
);
