/**
 * Where multipart requests are taken up again. Their parts are not parsed yet when the app-wide
 * interceptor sees them, so it leaves word on the request and steps aside; this gate stands behind
 * the method's file interceptors and carries on from there. It needs no injection, since Nest would
 * look for what it needs in the user's module.
 */
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import type { Observable } from 'rxjs';

type Continuation = (next: CallHandler) => Observable<unknown>;

const DEFERRED = Symbol.for('nestjs-idempotency-pg.deferred');

interface Deferrable {
  [DEFERRED]?: Continuation | undefined;
}

/** Leaves word that `request` is to be admitted once its parts are there. */
export function defer(request: object, continuation: Continuation): void {
  (request as Deferrable)[DEFERRED] = continuation;
}

export const partsGate: NestInterceptor = {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (context.getType() !== 'http') return next.handle();
    const request = context.switchToHttp().getRequest<Deferrable>();
    const continuation = request[DEFERRED];
    if (continuation === undefined) return next.handle();
    request[DEFERRED] = undefined;
    return continuation(next);
  },
};
