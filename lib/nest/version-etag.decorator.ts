/**
 * `@VersionETag()` is an interceptor of its method, and so sees the handler's own value before a
 * controller's or the application's interceptors serialize it.
 */
import { Logger, UseInterceptors } from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { map, takeLast } from 'rxjs';
import type { Observable } from 'rxjs';
import { readExchange } from '../http/request-facts.js';
import type { Exchange, ResponseDoor } from '../http/request-facts.js';
import { entityTagOf, matchesWeakly, readPrecondition } from '../recipes/preconditions.js';
import type { Version } from '../recipes/preconditions.js';
import { SENDS_VERSION } from './metadata.js';
import { streamOf } from './streams.js';

/** `If-None-Match` is a question for a copy with these alone (RFC 9110, section 13.1.2). */
const READING: ReadonlySet<string> = new Set(['GET', 'HEAD']);

class VersionETagInterceptor implements NestInterceptor {
  readonly #logger = new Logger('Idempotency');

  constructor(private readonly versionOf: (body: unknown) => Version) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (context.getType() !== 'http') return next.handle();
    const http = context.switchToHttp();
    const exchange = readExchange(http.getRequest(), http.getResponse());
    return next.handle().pipe(
      takeLast(1), // of a handler's Observable Nest sends the last value
      map((value: unknown) => this.#tagged(value, exchange, context)),
    );
  }

  #tagged(value: unknown, { request, response }: Exchange, context: ExecutionContext): unknown {
    const { raw } = response;
    if (raw.headersSent || raw.statusCode < 200 || raw.statusCode > 299) return value;
    const entityTag = standingTag(response) ?? this.#tagOf(value, context);
    if (entityTag === undefined) return value;
    response.setHeader('etag', entityTag);
    if (!READING.has(request.method) || !matchesWeakly(readPrecondition(request.header('if-none-match')), entityTag)) return value;
    response.notModified();
    streamOf(value)?.destroy();
    return undefined;
  }

  /**
   * The work is done by now, and an answer that failed because of its tag would have it done again. So
   * it leaves without one, and a client that has none is refused by `@RequireIfMatch()`.
   */
  #tagOf(value: unknown, context: ExecutionContext): string | undefined {
    if (value === undefined || value === null) return undefined;
    try {
      return entityTagOf(this.versionOf(value));
    } catch (error) {
      const where = `${context.getClass().name}.${context.getHandler().name}`;
      const name = error instanceof Error ? error.name : typeof error;
      this.#logger.error(
        `${where}: no ETag (${name}). Let the function of @VersionETag() give a number, or a text of visible ASCII characters without double quotes.`,
      );
      return undefined;
    }
  }
}

/** What the handler has set by itself: it knows better what it has chosen to send. */
function standingTag(response: ResponseDoor): string | undefined {
  const { etag } = { ...response.raw.getHeaders(), ...response.pendingHeaders() };
  return typeof etag === 'string' ? etag : undefined;
}

/**
 * Sets a strong `ETag` on the handler's 2xx answers, made of the version of what it returns:
 * `@VersionETag((profile: Profile) => profile.version)`. To a GET or HEAD whose `If-None-Match` names it,
 * the answer is 304 without a body (RFC 9110, section 13.1.2). An `ETag` that the handler has set stays,
 * and is compared instead. Put it on the PUT as well, so that a client can go on from its answer.
 *
 * @param versionOf is given what the handler returns (or resolves to), unless that is nothing; a number,
 *   or a text of visible ASCII characters without double quotes
 */
export function VersionETag<Body = { readonly version: Version }>(versionOf: (body: Body) => Version): MethodDecorator {
  const interceptor = new VersionETagInterceptor(versionOf as (body: unknown) => Version);
  return (target: object, key: string | symbol, descriptor: PropertyDescriptor): void => {
    Reflect.defineMetadata(SENDS_VERSION, true, descriptor.value as object);
    UseInterceptors(interceptor)(target, key, descriptor);
  };
}
