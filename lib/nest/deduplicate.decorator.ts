import { idempotentMetadata } from './metadata.js';
import { wrapMethod } from './method-wrapper.js';
import type { DeduplicateOptions } from './options.js';

/**
 * For clients that send no key: the same request of the same caller, within the window, is refused
 * with 409 `IDEMPOTENCY_DUPLICATE_REQUEST`, or answered with the first one's answer. Counted from the
 * first one's start; a running one blocks beyond it, and one that failed (400 and above) closes it.
 *
 * It stops a double click and an impatient reload. It can't tell a retry from a second order of the
 * same thing: where that matters let clients send a key, with `@Idempotent()`.
 *
 * For a multipart upload, put it above `@UseInterceptors(FileInterceptor(…))`, so that the parts are
 * parsed when they are compared.
 */
export function Deduplicate(options: DeduplicateOptions): MethodDecorator {
  return (target: object, key: string | symbol, descriptor: PropertyDescriptor): void => {
    const earlier = idempotentMetadata(descriptor.value);
    wrapMethod(target, key, descriptor, {
      classOptions: earlier?.classOptions,
      handlerOptions: earlier?.handlerOptions,
      explicit: earlier?.explicit ?? false,
      deduplicate: { ...earlier?.deduplicate, ...options },
    });
  };
}
