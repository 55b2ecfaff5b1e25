/**
 * `@RequireIfMatch()` is a guard: it stands before all interceptors, so that what it refuses has not
 * claimed a key. Global guards come before it, so that who is not allowed in hears nothing else.
 */
import { Inject, Injectable, UseGuards } from '@nestjs/common';
import type { CanActivate, ExecutionContext, OnModuleInit } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { PreconditionFailed, PreconditionInvalid, PreconditionRequired } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { ErrorFormat } from '../http/problem-details.js';
import { readExchange } from '../http/request-facts.js';
import { canMatchStrongly, readPrecondition } from '../recipes/preconditions.js';
import type { Precondition } from '../recipes/preconditions.js';
import { REQUIRES_IF_MATCH } from './metadata.js';
import { refusal } from './problem-exception.js';
import type { ResolvedOptions } from './resolve-options.js';
import { RESOLVED_OPTIONS } from './tokens.js';

/** Of a class's handlers those that change what there is already: a POST makes what nobody has a version of yet. */
const COVERED_BY_CLASS: ReadonlySet<string> = new Set(['PUT', 'PATCH', 'DELETE']);

@Injectable()
class IfMatchGuard implements CanActivate, OnModuleInit {
  #errorFormat: ErrorFormat = 'problem';

  /** It is made in the module of its controller, which need not know ours. */
  constructor(@Inject(ModuleRef) private readonly modules: ModuleRef) {}

  onModuleInit(): void {
    try {
      this.#errorFormat = this.modules.get<ResolvedOptions>(RESOLVED_OPTIONS, { strict: false }).errorFormat;
    } catch (cause) {
      throw new Error('@RequireIfMatch() needs IdempotencyModule, which words its refusals: import IdempotencyModule.forRoot().', {
        cause,
      });
    }
  }

  canActivate(context: ExecutionContext): boolean {
    if (context.getType() !== 'http') return true;
    const http = context.switchToHttp();
    const { request, response } = readExchange(http.getRequest(), http.getResponse());
    if (!Reflect.hasMetadata(REQUIRES_IF_MATCH, context.getHandler()) && !COVERED_BY_CLASS.has(request.method)) return true;
    const error = errorOf(readPrecondition(request.header('if-match')));
    if (error !== undefined) throw refusal(error, this.#errorFormat, response);
    return true;
  }
}

function errorOf(condition: Precondition): IdempotencyError | undefined {
  if (condition.kind === 'absent') return new PreconditionRequired();
  if (condition.kind === 'malformed') return new PreconditionInvalid();
  return canMatchStrongly(condition) ? undefined : new PreconditionFailed();
}

/**
 * Refuses a request without `If-Match` by 428 (RFC 6585, section 3), one with a malformed field by 400,
 * and one whose tags are all weak by 412, since they can match nothing; all before the handler begins
 * and before a key is claimed. Whether the condition holds is for the handler to find out: by
 * `@ExpectedVersion()` and `updateVersioned`.
 *
 * On a controller it covers the PUT, PATCH and DELETE handlers.
 */
export function RequireIfMatch(): ClassDecorator & MethodDecorator {
  return (target: object, key?: string | symbol, descriptor?: PropertyDescriptor): void => {
    Reflect.defineMetadata(REQUIRES_IF_MATCH, true, (descriptor?.value as object | undefined) ?? target);
    if (key === undefined || descriptor === undefined) UseGuards(IfMatchGuard)(target as new () => unknown);
    else UseGuards(IfMatchGuard)(target, key, descriptor);
  };
}
