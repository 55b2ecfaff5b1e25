/**
 * Puts a wrapper in a method's place while it is being decorated: that is the only moment before Nest
 * binds the route at which the handler itself, beneath pipes and interceptors, can be watched. The
 * wrapper knows nothing but its token; without a request on its way to it, it is the method.
 *
 * Which request that is, it is told by one parameter more than the method has. Where that can't be had
 * (another decorator's function stands in front and may drop it), the context says so.
 */
import { Req, UseInterceptors } from '@nestjs/common';
import { demandContext, isEntered, runFor, runOn } from './context.js';
import type { HandlerRun, Method } from './handler-run.js';
import { IDEMPOTENT, NEST } from './metadata.js';
import type { IdempotentMetadata } from './metadata.js';
import { partsGate } from './parts-gate.js';

export function wrapMethod(
  target: object,
  key: string | symbol,
  descriptor: PropertyDescriptor,
  settings: Omit<IdempotentMetadata, 'token' | 'behindInterceptors'>,
): void {
  const original = descriptor.value as Method;
  const token = {};
  const join: Join = { requestAt: undefined };
  const wrapper: Method = function (this: unknown, ...args) {
    const run = runOfCall(join, token, args);
    return run === undefined ? original.apply(this, args) : run.follow(original, this, args);
  };
  joins.set(wrapper, join);
  dressAs(original, wrapper);
  const behindInterceptors = hasInterceptors(original);
  Reflect.defineMetadata(IDEMPOTENT, { ...settings, token, behindInterceptors } satisfies IdempotentMetadata, wrapper);
  descriptor.value = wrapper;
  if (behindInterceptors) UseInterceptors(partsGate)(target, key, descriptor);
}

/** How a wrapper finds the request that it is called for. */
interface Join {
  /** The index of the parameter that tells it. */
  requestAt: number | undefined;
}

const joins = new WeakMap<object, Join>();

/** Takes the parameter that is ours off `args`. */
function runOfCall({ requestAt }: Join, token: object, args: unknown[]): HandlerRun | undefined {
  if (requestAt !== undefined && args.length === requestAt + 1 && isEntered(args[requestAt])) return runOn(args.pop() as object, token);
  const run = runFor(token);
  if (run !== undefined && !run.begun) demandContext(); // somebody has stepped in front of the method, and drops what is not its own
  return run;
}

/**
 * Has Nest hand the request to the wrapper, as `@Req()` would: no pipe sees it. To be called before the
 * route is bound.
 *
 * @returns `false` where that can't be had, since Nest calls another function than ours
 */
export function askForRequest(controller: abstract new (...args: never[]) => unknown, name: string, method: object): boolean {
  const join = joins.get(method);
  if (join === undefined) return false;
  const parameters = (Reflect.getMetadata(NEST.parameters, controller, name) ?? {}) as Record<string, { readonly index: number }>;
  if (join.requestAt !== undefined && `${REQUEST}:${join.requestAt}` in parameters) return true; // inherited, or of another application
  const next = Math.max((method as Method).length, ...Object.values(parameters).map(({ index }) => index + 1));
  if (join.requestAt !== undefined && join.requestAt < next) return false;
  join.requestAt ??= next;
  Req()(controller.prototype as object, name, join.requestAt);
  return true;
}

/** Nest's number for the request among the kinds of parameters; the same since Nest 4. */
const REQUEST = 0;

function hasInterceptors(method: Method): boolean {
  const interceptors: unknown = Reflect.getMetadata(NEST.interceptors, method);
  return Array.isArray(interceptors) && interceptors.length > 0;
}

/** Name, length and all metadata of the method, so that Nest and every other reader take the wrapper for it. */
function dressAs(original: Method, wrapper: Method): void {
  Object.defineProperty(wrapper, 'name', { value: original.name, configurable: true });
  Object.defineProperty(wrapper, 'length', { value: original.length, configurable: true });
  for (const key of Reflect.getMetadataKeys(original) as unknown[]) {
    Reflect.defineMetadata(key, Reflect.getMetadata(key, original), wrapper);
  }
}
