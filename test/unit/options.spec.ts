import { describe, expect, it, jest } from '@jest/globals';
import type { IncomingHttpHeaders } from 'node:http';
import { inspect } from 'node:util';
import type { ExecutionContext } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import type { Request } from 'express';
import type { Pool } from 'pg';
import type { DataSource } from 'typeorm';
import { Faults, IdempotencyOptionsError } from '../../lib/nest/faults.js';
import type { Fault } from '../../lib/nest/faults.js';
import type { IdempotencyModuleOptions, IdempotentOptions } from '../../lib/nest/options.js';
import { resolveModuleOptions, resolveRoute } from '../../lib/nest/resolve-options.js';
import type { ResolvedOptions, ResolvedRoute } from '../../lib/nest/resolve-options.js';

const SECRET = 'correct horse battery staple 0123456789';
const dataSource = { options: { type: 'postgres' }, createQueryRunner: () => undefined } as unknown as DataSource;
const pool = { options: {}, connect: () => undefined, query: () => undefined } as unknown as Pool;

interface Written {
  readonly module?: unknown;
  readonly onClass?: unknown;
  readonly onHandler?: unknown;
  readonly onStoreIfFailure?: (error: unknown) => void;
}

function resolve(written: Written, faults: Faults): { module: ResolvedOptions; route: ResolvedRoute } {
  const module = resolveModuleOptions((written.module ?? {}) as IdempotencyModuleOptions, faults);
  const route = resolveRoute(
    module,
    {
      controller: 'Payments',
      method: 'create',
      classOptions: written.onClass as IdempotentOptions,
      handlerOptions: written.onHandler as IdempotentOptions,
      onStoreIfFailure: written.onStoreIfFailure ?? (() => undefined),
    },
    faults,
  );
  return { module, route };
}

function accepted(written: Written = {}): { module: ResolvedOptions; route: ResolvedRoute } {
  const faults = new Faults();
  const resolved = resolve(written, faults);
  faults.throwIfAny();
  return resolved;
}

function refused(written: Written): IdempotencyOptionsError {
  const faults = new Faults();
  resolve(written, faults);
  try {
    faults.throwIfAny();
  } catch (error) {
    if (error instanceof IdempotencyOptionsError) return error;
    throw error;
  }
  throw new Error('was not refused');
}

describe('without a word', () => {
  it('the module has its defaults', () => {
    const { keptHeaders, ...module } = accepted().module;
    expect(module).toEqual({
      dataSource: undefined,
      defaultRetentionMs: 86_400_000,
      joinRepositories: false,
      maxWaiters: 1000,
      pool: undefined,
      poolSize: 4,
      schema: 'public',
      preparedStatements: true,
      sharedStatements: true,
      fingerprintSecret: undefined,
      shutdownTimeoutMs: 30_000,
      errorFormat: 'problem',
      warnUnprotected: false,
      reaper: { everyMs: 60_000, batch: 1000 },
      storeTimeoutMs: 5000,
      routes: { header: 'Idempotency-Key', defaults: {} },
    });
    expect([...keptHeaders]).toEqual([
      'content-type',
      'content-language',
      'content-location',
      'content-disposition',
      'cache-control',
      'location',
      'etag',
      'last-modified',
      'link',
    ]);
  });

  it('a route has its defaults', () => {
    const { keeps, ...route } = accepted().route;
    expect(route).toEqual({
      handler: 'Payments.create',
      required: false,
      scope: 'default',
      operation: '',
      keyFrom: { kind: 'header', label: 'the Idempotency-Key header', names: ['idempotency-key'], written: ['Idempotency-Key'] },
      keyFormat: 'any',
      fingerprint: undefined,
      forgetsWithinADay: false,
      retentionMs: 86_400_000,
      leaseMs: 60_000,
      retryAfterMs: 1000,
      onLostExecution: 'rerun',
      durableClaim: true,
      atomic: undefined,
      waitMs: 0,
      storeTimeoutMs: 5000,
      onStoreFailure: 'reject',
      maxBodyBytes: 1_048_576,
    });
    expect([200, 404, 429, 500].map((status) => keeps(status))).toEqual([true, true, false, false]);
  });

  it('undefined and null are as good as nothing', () => {
    const nothing = { ttl: undefined, lockTtl: null, scope: null, header: undefined, reaper: null };
    expect(inspect(accepted({ module: nothing, onHandler: { ttl: undefined } }))).toBe(inspect(accepted()));
  });
});

describe('what is written', () => {
  it('is taken over, with lower-case names and milliseconds', () => {
    const { module } = accepted({
      module: {
        dataSource,
        poolSize: 10,
        schema: 'pay"ments',
        preparedStatements: false,
        sharedStatements: false,
        replayHeaders: ['X-Request-Cost', 'ETag'],
        shutdownTimeout: 0,
        errorFormat: 'nest',
        reaper: { every: '5m' },
        storeTimeout: '2s',
      },
    });
    expect(module).toMatchObject({
      dataSource,
      poolSize: 10,
      schema: 'pay"ments',
      preparedStatements: false,
      sharedStatements: false,
      shutdownTimeoutMs: 0,
      errorFormat: 'nest',
      reaper: { everyMs: 300_000, batch: 1000 },
      storeTimeoutMs: 2000,
    });
    expect(module.keptHeaders.has('x-request-cost')).toBe(true);
    expect(module.keptHeaders.size).toBe(10);
  });

  it('takes a pool in place of a DataSource, and false for no reaper', () => {
    expect(accepted({ module: { pool, reaper: false } }).module).toMatchObject({ pool, reaper: false });
  });

  it("of a handler merges over its class's, and that over the module's", () => {
    const { route } = accepted({
      module: { ttl: '1d', lockTtl: '10s', required: true, storeTimeout: 1000 },
      onClass: { lockTtl: '20s', retryAfter: '2s', required: undefined },
      onHandler: { retryAfter: '3s', onStoreFailure: 'bypass', onLostExecution: 'reject', durableClaim: false, maxBodyBytes: 0 },
    });
    expect(route).toMatchObject({
      retentionMs: 86_400_000,
      leaseMs: 20_000,
      retryAfterMs: 3000,
      required: true,
      storeTimeoutMs: 1000,
      onStoreFailure: 'bypass',
      onLostExecution: 'reject',
      durableClaim: false,
      maxBodyBytes: 0,
    });
  });

  it('is read once: what is resolved is frozen', () => {
    const { module, route } = accepted({ module: { reaper: {} } });
    for (const part of [module, module.reaper, module.routes, module.routes.defaults, route, route.keyFrom])
      expect(Object.isFrozen(part)).toBe(true);
  });

  it.each<[string, Written, unknown]>([
    [
      'the module’s header names',
      { module: { header: ['Idempotency-Key', 'X-Key', 'x-key'] } },
      { kind: 'header', label: 'the Idempotency-Key header', names: ['idempotency-key', 'x-key'], written: ['Idempotency-Key', 'X-Key'] },
    ],
    [
      'a header of the route’s own',
      { module: { header: 'A' }, onHandler: { keyFrom: { header: 'X-Key' } } },
      { kind: 'header', label: 'the X-Key header', names: ['x-key'], written: ['X-Key'] },
    ],
    ['a route parameter', { onHandler: { keyFrom: { param: 'id' } } }, { kind: 'param', label: 'the route parameter "id"', name: 'id' }],
    [
      'a path in the body',
      { onHandler: { keyFrom: { body: 'event.id' } } },
      { kind: 'body', label: 'the body at "event.id"', path: 'event.id' },
    ],
    ['a function', { onHandler: { keyFrom: inspect } }, { kind: 'function', label: 'the request', read: inspect }],
  ])('finds keys in %s', (_, written, keyFrom) => {
    expect(accepted(written).route.keyFrom).toEqual(keyFrom);
  });

  it.each<[string, IdempotentOptions, string | undefined]>([
    ['is one space for header keys', {}, ''],
    ['is left to the handler for natural keys', { keyFrom: { param: 'id' } }, undefined],
    ['has the name that it was given', { keyFrom: { param: 'id' }, operation: 'capture' }, 'capture'],
    ['has the name that it was given, for header keys too', { operation: 'capture' }, 'capture'],
  ])('operation %s', (_, onHandler, operation) => {
    expect(accepted({ onHandler }).route.operation).toBe(operation);
  });

  it('scope is a function, shared on purpose, or the default', () => {
    const scope = (): string => 'tenant';
    expect(accepted({ onHandler: { scope } }).route.scope).toBe(scope);
    expect(accepted({ module: { scope }, onHandler: { scope: false } }).route.scope).toBe('shared');
    expect(accepted().route.scope).toBe('default');
  });

  it('a function for storeIf decides, and is reported when it fails', () => {
    const onStoreIfFailure = jest.fn();
    expect(accepted({ onHandler: { storeIf: (status: number) => status === 503 } }).route.keeps(503)).toBe(true);
    expect(accepted({ module: { storeIf: 'all' } }).route.keeps(500)).toBe(true);
    const bug = new Error('a bug');
    const storeIf = (): boolean => {
      throw bug;
    };
    expect(accepted({ onHandler: { storeIf }, onStoreIfFailure }).route.keeps(200)).toBe(true);
    expect(onStoreIfFailure).toHaveBeenCalledWith(bug);
  });

  it('a route waits only where it says so, and for ten seconds unless it says how long', () => {
    expect(accepted({ onHandler: { waitTimeout: '30s' } }).route.waitMs).toBe(0);
    expect(accepted({ onHandler: { onDuplicate: 'wait' } }).route.waitMs).toBe(10_000);
    expect(accepted({ module: { onDuplicate: 'wait' }, onHandler: { waitTimeout: '30s' } }).route.waitMs).toBe(30_000);
    expect(accepted({ module: { onDuplicate: 'wait' }, onHandler: { onDuplicate: 'reject' } }).route.waitMs).toBe(0);
  });

  it.each<[IdempotentOptions['atomic'], unknown]>([
    [false, undefined],
    [true, { isolation: undefined, retries: 0 }],
    [{}, { isolation: undefined, retries: 0 }],
    [
      { isolation: 'SERIALIZABLE', retries: 3 },
      { isolation: 'SERIALIZABLE', retries: 3 },
    ],
  ])('atomic: %j', (atomic, resolved) => {
    expect(accepted({ onHandler: { atomic } }).route.atomic).toEqual(resolved);
  });

  it.each<[boolean, IdempotentOptions]>([
    [true, {}],
    [false, { atomic: true }],
    [true, { atomic: true, durableClaim: true }],
    [false, { durableClaim: false }],
  ])('the claim waits for the disk: %p for %j', (durableClaim, onHandler) => {
    expect(accepted({ onHandler }).route.durableClaim).toBe(durableClaim);
  });

  it.each<[boolean, IdempotentOptions]>([
    [true, { ttl: '23h' }],
    [false, { ttl: '24h' }],
    [false, { ttl: '1m', keyFrom: { param: 'id' } }],
    [true, { ttl: '1m', keyFrom: { header: 'X-Key' } }],
  ])('forgets within a day: %p for %j', (forgetsWithinADay, onHandler) => {
    expect(accepted({ onHandler }).route.forgetsWithinADay).toBe(forgetsWithinADay);
  });
});

describe('faults', () => {
  type Case = [option: string, value: unknown, fault: RegExp];

  const ofRoutes: Case[] = [
    ['required', 'yes', /'yes', which is not true or false/],
    ['scope', 'tenant', /neither a function nor false/],
    ['scope', true, /neither a function nor false/],
    ['operation', '', /is empty/],
    ['operation', 7, /no text/],
    ['operation', 'a\nb', /control characters/],
    ['operation', 'x'.repeat(256), /256 characters/],
    ['keyFrom', 'id', /is 'id'/],
    ['keyFrom', {}, /exactly one source/],
    ['keyFrom', { param: 'id', body: 'id' }, /exactly one source/],
    ['keyFrom', { query: 'id' }, /'query', which is no source/],
    ['keyFrom', { param: '' }, /no parameter's name/],
    ['keyFrom', { body: 'event..id' }, /no path/],
    ['keyFrom', { body: 7 }, /no path/],
    ['keyFrom', { header: 'a b' }, /'a b', which is no header name/],
    ['keyFrom', { header: [] }, /empty list/],
    ['keyFormat', 'ulid', /is 'ulid'/],
    ['fingerprint', 'body', /no function/],
    ['ttl', 'soon', /'soon', which is no duration/],
    ['ttl', '999ms', /between 1s and 3650d/],
    ['ttl', '3651d', /between 1s and 3650d/],
    ['ttl', 1.5, /no duration/],
    ['lockTtl', 999, /between 1s and 1d/],
    ['lockTtl', '25h', /between 1s and 1d/],
    ['retryAfter', '100ms', /between 1s and 1d/],
    ['onLostExecution', 'ignore', /not 'rerun' or 'reject'/],
    ['durableClaim', 1, /not true or false/],
    ['storeIf', 'none', /is 'none'/],
    ['maxBodyBytes', -1, /negative/],
    ['maxBodyBytes', '1MiB', /not a whole number/],
    ['maxBodyBytes', 2 ** 30, /more than 512 MiB/],
    ['storeTimeout', '99ms', /between 100ms and 10m/],
    ['onStoreFailure', 'ignore', /not 'reject' or 'bypass'/],
    ['onDuplicate', 'queue', /not 'reject' or 'wait'/],
    ['waitTimeout', '11m', /between 1ms and 10m/],
    ['atomic', 'yes', /is 'yes'/],
    ['atomic', [], /^is /],
    ['atomic', { isolation: 'READ UNCOMMITTED' }, /isolation: 'READ UNCOMMITTED'/],
    ['atomic', { retries: 11 }, /retries: 11/],
    ['atomic', { retries: -1 }, /retries: -1/],
    ['atomic', { retry: 3 }, /retry: 3/],
    ['timeToLive', '1h', /is no option/],
  ];

  const ofTheModule: Case[] = [
    ['dataSource', {}, /no TypeORM DataSource/],
    ['dataSource', Object.assign(Object.create(dataSource) as typeof dataSource, { options: { type: 'mysql' } }), /of the type 'mysql'/],
    ['pool', {}, /no pg Pool/],
    ['poolSize', 0, /less than 1/],
    ['poolSize', 101, /more than 100/],
    ['poolSize', '4', /not a whole number/],
    ['schema', '', /no schema's name/],
    ['schema', 'ä'.repeat(32), /63 bytes/],
    ['preparedStatements', 'no', /not true or false/],
    ['sharedStatements', 'no', /not true or false/],
    ['header', '', /no header name/],
    ['header', [], /empty list/],
    ['header', ['Idempotency-Key', 'Über'], /'Über', which is no header name/],
    ['fingerprintSecret', 'x'.repeat(31), /shorter than 32 bytes/],
    ['fingerprintSecret', Buffer.alloc(31), /shorter than 32 bytes/],
    ['fingerprintSecret', 7, /neither a text nor bytes/],
    ['replayHeaders', 'X-Cost', /no list/],
    ['replayHeaders', ['X Cost'], /no header name/],
    ['replayHeaders', ['Set-Cookie'], /session/],
    ['replayHeaders', ['Connection'], /one connection/],
    ['replayHeaders', ['keep-alive'], /one connection/],
    ['replayHeaders', ['Transfer-Encoding'], /one connection/],
    ['replayHeaders', ['Upgrade'], /one connection/],
    ['replayHeaders', ['TE'], /one connection/],
    ['replayHeaders', ['Trailer'], /one connection/],
    ['replayHeaders', ['Date'], /this very answer/],
    ['replayHeaders', ['Content-Length'], /computed/],
    ['replayHeaders', ['Content-Encoding'], /each client/],
    ['replayHeaders', ['Access-Control-Allow-Origin'], /CORS/],
    ['replayHeaders', ['Idempotent-Replayed'], /set by this module/],
    ['maxWaiters', 0, /less than 1/],
    ['maxWaiters', 1e7, /more than 1000000/],
    ['joinRepositories', 'all', /not true or false/],
    ['shutdownTimeout', '2d', /between 0ms and 1d/],
    ['errorFormat', 'xml', /not 'problem' or 'nest'/],
    ['reaper', true, /not an object or false/],
    ['reaper.every', '10ms', /between 1s and 1d/],
    ['reaper.batch', 0, /less than 1/],
    ['reaper.batch', 1e6, /more than 100000/],
    ['reaper.size', 5, /is no option/],
  ];

  function nested(option: string, value: unknown): object {
    const [outer = '', inner] = option.split('.');
    return { [outer]: inner === undefined ? value : { [inner]: value } };
  }

  function expectOne(error: IdempotencyOptionsError, option: string, fault: RegExp): Fault {
    expect(error.faults).toHaveLength(1);
    const [found] = error.faults;
    expect(found).toMatchObject({ option, fault: expect.stringMatching(fault) });
    expect(found?.remedy).toMatch(/^[A-Z].*\.$/);
    for (const part of [option, found?.fault, found?.remedy]) expect(error.message).toContain(part);
    return found as Fault;
  }

  it.each([...ofRoutes, ...ofTheModule])('of the module name the option and a remedy: %s %p', (option, value, fault) => {
    const found = expectOne(refused({ module: nested(option, value) }), option, fault);
    expect(found.where).toBeUndefined();
  });

  it.each(ofRoutes)('of a handler say where as well: %s %p', (option, value, fault) => {
    expect(expectOne(refused({ onHandler: nested(option, value) }), option, fault).where).toBe('Payments.create');
    expect(expectOne(refused({ onClass: nested(option, value) }), option, fault).where).toBe('Payments');
  });

  it('an atomic handler can’t run without Postgres, wherever that is asked for', () => {
    const [fault] = refused({ module: { onStoreFailure: 'bypass' }, onHandler: { atomic: true } }).faults;
    expect(fault).toMatchObject({ option: 'onStoreFailure', where: 'Payments.create', fault: expect.stringContaining('atomic') });
    accepted({ module: { onStoreFailure: 'bypass' }, onHandler: { atomic: true, onStoreFailure: 'reject' } });
  });

  it('are all told at once, wherever they are', () => {
    const { faults, message } = refused({
      module: { ttl: 'soon', poolSize: 0, tll: '1h' },
      onClass: { lockTtl: 1 },
      onHandler: { retryAfter: 1, storeIf: 1 },
    });
    expect(faults.map(({ option }) => option).sort()).toEqual(['lockTtl', 'poolSize', 'retryAfter', 'storeIf', 'tll', 'ttl']);
    expect(message.split('\n')).toHaveLength(7);
  });

  it('of a controller are told once, however many handlers it has', () => {
    const faults = new Faults();
    const module = resolveModuleOptions({}, faults);
    for (const method of ['create', 'cancel']) {
      resolveRoute(
        module,
        {
          controller: 'Payments',
          method,
          classOptions: { ttl: 'soon' },
          handlerOptions: { lockTtl: 'later' },
          onStoreIfFailure: () => undefined,
        },
        faults,
      );
    }
    expect(() => faults.throwIfAny()).toThrow(
      /- ttl \(at Payments\) is 'soon'.*\n- lockTtl \(at Payments.create, Payments.cancel\) is 'later'[^\n]*$/,
    );
  });

  it("send the module's options back to the module", () => {
    const { message } = refused({ onHandler: { schema: 'pay' } });
    expect(message).toMatch(/schema \(at Payments.create\) is an option of the whole module. Move it to IdempotencyModule.forRoot\(\)/);
  });

  it('help with a misspelt name by the list of all', () => {
    expect(refused({ onHandler: { tll: '1h' } }).message).toMatch(/tll .* is no option.*\bttl, lockTtl\b/);
  });

  it('name a DataSource and a pool together', () => {
    expect(refused({ module: { dataSource, pool } }).faults).toMatchObject([{ option: 'pool', fault: 'is given beside dataSource' }]);
  });

  it.each([[null], ['fast'], [7]])('find options that are no object: %p', (options) => {
    expect(() => {
      const faults = new Faults();
      resolveModuleOptions(options as never, faults);
      faults.throwIfAny();
    }).toThrow(/- options are .*Give an object/);
  });

  it('are none, and nothing is thrown', () => {
    expect(() => new Faults().throwIfAny()).not.toThrow();
  });
});

describe('secrets', () => {
  it('never come out of a fault', () => {
    const { message, faults } = refused({
      module: {
        fingerprintSecret: SECRET.slice(0, 20),
        dataSource: `postgres://app:${SECRET}@db/shop`,
        pool: { password: SECRET, connectionString: SECRET },
      },
    });
    expect(faults).toHaveLength(3);
    expect(message + inspect(faults, { depth: 9 })).not.toContain('horse');
  });

  it('never come out of the resolved options', () => {
    const { module } = accepted({ module: { fingerprintSecret: SECRET } });
    expect(inspect(module, { depth: 9 }) + JSON.stringify(module)).not.toContain('horse');
    expect(module.fingerprintSecret?.export().toString()).toBe(SECRET);
  });

  it('may be bytes, which are copied', () => {
    const bytes = Buffer.from(SECRET);
    const { module } = accepted({ module: { fingerprintSecret: bytes } });
    bytes.fill(0);
    expect(module.fingerprintSecret?.export().toString()).toBe(SECRET);
  });
});

describe('types', () => {
  it('let functions ask for the request they get, without a cast', () => {
    interface Signed {
      user: { id: string };
    }
    const options: IdempotentOptions[] = [
      { scope: (request) => request.url },
      { scope: (request: Request) => request.ip },
      { scope: (request: FastifyRequest) => request.ip },
      { scope: (request: Request & Signed) => request.user.id },
      { scope: (request: Signed) => request.user.id },
      { scope: async ({ headers }: { headers: IncomingHttpHeaders }) => Promise.resolve(String(headers['x-tenant'])) },
      { scope: () => undefined },
      { fingerprint: (request: Request) => (request.body as { amount: number }).amount },
      { fingerprint: (request: Signed, context: ExecutionContext) => [request.user.id, context.getClass().name] },
      { keyFrom: (context) => context.switchToHttp().getRequest<Request>().get('x-event') },
      { keyFormat: /^a/, storeIf: (status, error) => status < 500 && error === undefined },
    ];
    // @ts-expect-error a scope is a text
    options.push({ scope: () => 42 });
    // @ts-expect-error a request is no number
    options.push({ scope: (request: number) => String(request) });
    expect(options).toHaveLength(13);
  });
});

describe('encryption', () => {
  const KEY = Buffer.alloc(32, 7);
  const faultOf = (encryption: unknown): string => refused({ module: { encryption } }).message;

  it('takes 32 bytes, or a text of at least 32 characters, and shows neither', () => {
    const { encryption } = accepted({ module: { encryption: { keys: [KEY, SECRET] } } }).module;
    expect(encryption).toMatchObject({ acceptPlain: false, writePlain: false });
    expect(encryption?.keys.map(({ symmetricKeySize }) => symmetricKeySize)).toEqual([32, 32]);
    expect(inspect(encryption, { depth: 9 })).not.toMatch(/correct horse|07 07/);
  });

  it.each([
    ['a key by itself', SECRET, /is not an object with keys/],
    ['no keys', { keys: [] }, /has no list of keys, or an empty one/],
    ['a short text', { keys: [KEY, SECRET.slice(0, 31)] }, /has a key \(number 2\) that is a text of less than 32 characters/],
    ['a short Buffer', { keys: [KEY.subarray(1)] }, /has a key \(number 1\) that has not 32 bytes/],
    ['a long Buffer', { keys: [Buffer.alloc(33)] }, /has not 32 bytes/],
    ['something else', { keys: [42] }, /is neither a text nor bytes/],
    ['a misspelt option', { keys: [KEY], acceptplain: true }, /has 'acceptplain', which is none of keys, acceptPlain, writePlain/],
    ['a flag that is none', { keys: [KEY], acceptPlain: 'yes' }, /has acceptPlain: 'yes'/],
    ['what would refuse its own records', { keys: [KEY], writePlain: true }, /writePlain without acceptPlain/],
  ])('is refused with %s, and no key is shown', (_, encryption, fault) => {
    const message = faultOf(encryption);
    expect(message).toMatch(fault);
    expect(message).toMatch(/Write \{ keys: \[key\] \}/);
    expect(message).not.toContain('correct horse');
  });

  it('is the module’s, not a route’s', () => {
    expect(refused({ onHandler: { encryption: { keys: [KEY] } } }).message).toMatch(/encryption.*is an option of the whole module/);
  });
});

describe('redact and maxLiveKeys', () => {
  it('can be given for the module, a controller and a handler', () => {
    const redact = (answer: unknown): unknown => answer;
    expect(accepted({ module: { redact, maxLiveKeys: 10 }, onHandler: { maxLiveKeys: 20 } }).route).toMatchObject({
      redact,
      maxLiveKeys: 20,
    });
  });

  it.each([
    [{ redact: true }, /redact .*is no function/],
    [{ maxLiveKeys: 0 }, /maxLiveKeys .*less than 1/],
    [{ maxLiveKeys: 1.5 }, /maxLiveKeys .*not a whole number/],
    [{ maxLiveKeys: 1_000_000 }, /maxLiveKeys .*more than 100000/],
  ])('are checked: %j', (onHandler, fault) => {
    expect(refused({ onHandler }).message).toMatch(fault);
  });
});
