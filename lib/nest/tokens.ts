/** Injection tokens. Symbols of the registry, so that they are the same in every copy of this library that a process has loaded. */
export const WRITTEN_OPTIONS = Symbol.for('nestjs-idempotency-pg.written-options');
export const RESOLVED_OPTIONS = Symbol.for('nestjs-idempotency-pg.resolved-options');
export const STORE = Symbol.for('nestjs-idempotency-pg.store');
export const RUNS = Symbol.for('nestjs-idempotency-pg.runs');
/** The application's own way to its database. */
export const APPLICATION = Symbol.for('nestjs-idempotency-pg.application');
export const ENGINE = Symbol.for('nestjs-idempotency-pg.engine');
/** For who watches over the application. */
export const LIFECYCLE = Symbol.for('nestjs-idempotency-pg.lifecycle');
export const ROUTES = Symbol.for('nestjs-idempotency-pg.routes');
/** What takes the place of store and clock in tests of applications; `undefined` elsewhere. */
export const STAND_IN = Symbol.for('nestjs-idempotency-pg.stand-in');
export const CLOCK = Symbol.for('nestjs-idempotency-pg.clock');
/** An object made once for each module instance: frames of two applications are told apart by it. */
export const MODULE_INSTANCE = Symbol.for('nestjs-idempotency-pg.module-instance');
