import { createParamDecorator } from '@nestjs/common';
import type { IdempotentExecution } from '../contract/execution.js';
import { innermostExecution } from './context.js';

/**
 * Hands the running {@link IdempotentExecution} to an `@Idempotent()` or `@Deduplicate()` handler.
 *
 * @throws Error when the handler is neither, or IdempotencyModule is not imported
 */
export const CurrentExecution: () => ParameterDecorator = createParamDecorator((_data: undefined): IdempotentExecution => {
  const execution = innermostExecution();
  if (execution === undefined) {
    throw new Error(
      '@CurrentExecution() has nothing to hand over here: put @Idempotent() or @Deduplicate() on the handler and import IdempotencyModule.forRoot().',
    );
  }
  return execution;
});
