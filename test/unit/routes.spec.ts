import 'reflect-metadata';
import { describe, expect, it } from '@jest/globals';
import { All, Body, Controller, Delete, Get, Head, Injectable, Options, Patch, Post, Put, Sse, Version } from '@nestjs/common';
import type { ExecutionContext, Type } from '@nestjs/common';
import type { ModulesContainer } from '@nestjs/core';
import { EMPTY } from 'rxjs';
import { Deduplicate, Idempotent, SkipIdempotency } from '../../lib/index.js';
import { Faults, IdempotencyOptionsError } from '../../lib/nest/faults.js';
import type { IdempotencyModuleOptions } from '../../lib/nest/options.js';
import { resolveModuleOptions } from '../../lib/nest/resolve-options.js';
import { findRoutes } from '../../lib/nest/routes.js';
import type { IdempotentRoute } from '../../lib/nest/routes.js';

/** An application's parts as Nest's container lists them. */
function modulesWith(controllers: readonly Type[], providers: readonly Type[] = []): ModulesContainer {
  const wrapped = (classes: readonly Type[]) => new Map(classes.map((metatype) => [metatype, { metatype }]));
  return new Map([['module', { controllers: wrapped(controllers), providers: wrapped(providers) }]]) as unknown as ModulesContainer;
}

function routesOf(controllers: readonly Type[], options: IdempotencyModuleOptions = {}) {
  const faults = new Faults();
  const routes = findRoutes(modulesWith(controllers), resolveModuleOptions(options, faults), faults);
  faults.throwIfAny();
  return routes;
}

function routeOf(controller: Type, method: string, options?: IdempotencyModuleOptions): IdempotentRoute | undefined {
  return routesOf([controller], options).of(contextOf(controller, method));
}

function contextOf(controller: Type, method: string): ExecutionContext {
  return { getClass: () => controller, getHandler: () => controller.prototype[method] } as ExecutionContext;
}

function faultsOf(controllers: readonly Type[], providers: readonly Type[] = []): string[] {
  const faults = new Faults();
  findRoutes(modulesWith(controllers, providers), resolveModuleOptions({}, faults), faults);
  try {
    faults.throwIfAny();
    return [];
  } catch (error) {
    return (error as IdempotencyOptionsError).faults.map(({ where, fault }) => `${where} ${fault}`);
  }
}

const messagePattern = (): MethodDecorator => (_target, _key, descriptor) => {
  Reflect.defineMetadata('microservices:pattern', ['paid'], descriptor.value as object);
};

describe('a decorated handler', () => {
  @Controller()
  class Payments {
    @Idempotent({ ttl: '48h' })
    @Post()
    create(): void {}

    @Post('plain')
    plain(): void {}
  }

  it('is found, with its options, and no other one', () => {
    expect(routeOf(Payments, 'create')?.settings).toMatchObject({ handler: 'Payments.create', retentionMs: 48 * 3_600_000 });
    expect(routeOf(Payments, 'plain')).toBeUndefined();
  });

  it('is the method it was, to everybody who looks', () => {
    expect(Payments.prototype.create.name).toBe('create');
    expect(Reflect.getMetadata('path', Payments.prototype.create)).toBe('/');
  });

  it('is covered whatever its route’s method', () => {
    expect(routeOf(Payments, 'create')?.covers('POST')).toBe(true);
    expect(routeOf(Payments, 'create')?.coversAll).toBe(true);
  });

  it('goes by the module’s options where it has none of its own', () => {
    expect(routeOf(Payments, 'create', { lockTtl: '7s', ttl: '1h' })?.settings).toMatchObject({
      leaseMs: 7000,
      retentionMs: 48 * 3_600_000,
    });
  });
});

describe('a decorated controller', () => {
  class Base {
    @Post('inherited')
    inherited(): void {}

    @Post('exempt')
    @SkipIdempotency()
    exempt(): void {}
  }

  @Idempotent({ ttl: '48h', lockTtl: '9s' })
  @Controller()
  class Orders extends Base {
    @Post() post(): void {}
    @Put() put(): void {}
    @Patch() patch(): void {}
    @Delete() remove(): void {}
    @All('any') any(): void {}
    @Get() get(): void {}
    @Head() head(): void {}
    @Options() options(): void {}
    @Sse('events') events(): unknown {
      return EMPTY;
    }
    @Idempotent({ ttl: '72h' })
    @Post('longer')
    longer(@Body() _body: unknown): void {}
    helper(): void {}
  }

  @Controller()
  class Sibling extends Base {}

  it.each(['post', 'put', 'patch', 'remove', 'any', 'inherited', 'longer'])('covers %s', (method) => {
    expect(routeOf(Orders, method)).toBeDefined();
  });

  it.each(['get', 'head', 'options', 'events', 'helper', 'exempt'])('leaves %s alone', (method) => {
    expect(routeOf(Orders, method)).toBeUndefined();
  });

  it('gives its options to its handlers, which may have others', () => {
    expect(routeOf(Orders, 'post')?.settings).toMatchObject({ retentionMs: 48 * 3_600_000, leaseMs: 9000 });
    expect(routeOf(Orders, 'longer')?.settings).toMatchObject({ retentionMs: 72 * 3_600_000, leaseMs: 9000 });
  });

  it('covers an @All handler for requests that are not safe', () => {
    const route = routeOf(Orders, 'any');
    expect(['POST', 'PUT', 'PATCH', 'DELETE', 'PURGE'].every((method) => route?.covers(method))).toBe(true);
    expect(['GET', 'HEAD', 'OPTIONS', 'TRACE'].some((method) => route?.covers(method))).toBe(false);
    expect(route?.coversAll).toBe(false);
  });

  it('leaves other heirs of its base class alone', () => {
    expect(routeOf(Sibling, 'inherited')).toBeUndefined();
  });

  it('covers an inherited handler that was decorated in the base class, in each heir by itself', () => {
    class Decorated {
      @Idempotent({ ttl: '48h' })
      @Post()
      create(): void {}
    }
    @Controller()
    class Heir extends Decorated {}
    @Controller()
    class Other extends Decorated {}
    const routes = routesOf([Heir, Other]);
    expect(routes.all.map(({ settings }) => settings.handler)).toEqual(['Heir.create', 'Other.create']);
    expect(routes.of(contextOf(Other, 'create'))?.settings.handler).toBe('Other.create');
  });
});

describe('the version of a route', () => {
  @Controller({ path: 'v', version: '1' })
  class Versioned {
    @Idempotent() @Post() classes(): void {}
    @Idempotent() @Version('2') @Post('two') own(): void {}
  }

  it('is the handler’s own before its class’s', () => {
    expect([routeOf(Versioned, 'classes')?.version, routeOf(Versioned, 'own')?.version]).toEqual(['1', '2']);
  });
});

describe('a decoration that can mean nothing', () => {
  class Safe {
    @Idempotent() @Get() get(): void {}
    @Idempotent() @Head() head(): void {}
    @Idempotent() @Options() options(): void {}
    @Idempotent() @Sse() events(): unknown {
      return EMPTY;
    }
  }

  it.each(['get', 'head', 'options'])('on a handler that is safe anyway is refused (%s)', (method) => {
    expect(faultsOf([Safe])).toContainEqual(`Safe.${method} stands on a GET, HEAD or OPTIONS handler, which is safe to retry as it is`);
  });

  it('on an event stream is refused', () => {
    expect(faultsOf([Safe])).toContainEqual(expect.stringMatching(/^Safe\.events stands on an @Sse\(\) handler/));
  });

  it('on a message handler is refused', () => {
    class Messages {
      @Idempotent() @messagePattern() paid(): void {}
    }
    expect(faultsOf([Messages])).toEqual(['Messages.paid does not stand on an HTTP handler of a controller']);
  });

  it('on a controller of message handlers is refused', () => {
    @Idempotent()
    @Controller()
    class Messages {
      @messagePattern() paid(): void {}
    }
    expect(faultsOf([Messages])).toEqual(['Messages does not stand on an HTTP handler of a controller']);
  });

  it('on a controller leaves its message handlers alone where it has HTTP handlers, too', () => {
    @Idempotent()
    @Controller()
    class Hybrid {
      @Post() create(): void {}
      @messagePattern() paid(): void {}
    }
    expect(faultsOf([Hybrid])).toEqual([]);
    expect(routeOf(Hybrid, 'paid')).toBeUndefined();
  });

  it('on a resolver, gateway or service is refused, on the class as on a method', () => {
    @Idempotent()
    @Injectable()
    class Resolver {
      create(): void {}
    }
    @Injectable()
    class Gateway {
      @Idempotent() received(): void {}
    }
    expect(faultsOf([], [Resolver, Gateway])).toEqual([
      'Resolver does not stand on an HTTP handler of a controller',
      'Gateway.received does not stand on an HTTP handler of a controller',
    ]);
  });

  it('comes with all the others in one error, beside the faults in options', () => {
    class Faulty {
      @Idempotent({ ttl: 'for ever' }) @Post() create(): void {}
    }
    expect(faultsOf([Safe, Faulty])).toHaveLength(5);
  });

  it('where a provider is no class is no trouble', () => {
    const modules = modulesWith([], [null, () => undefined, {}] as unknown as Type[]);
    const faults = new Faults();
    findRoutes(modules, resolveModuleOptions({}, faults), faults);
    expect(() => faults.throwIfAny()).not.toThrow();
  });
});

describe('@Deduplicate', () => {
  const window = '10s';

  it('stands for the rules of its handler, whatever its route’s method', () => {
    @Controller()
    class Forms {
      @Deduplicate({ window }) @Post() post(): void {}
      @Deduplicate({ window }) @All('all') all(): void {}
      @Put() plain(): void {}
    }
    expect(routeOf(Forms, 'post')?.settings).toMatchObject({ handler: 'Forms.post', window: { answer: 'reject' }, retentionMs: 10_000 });
    expect(['POST', 'GET'].map((method) => routeOf(Forms, 'all')?.covers(method))).toEqual([true, false]);
    expect(routeOf(Forms, 'plain')).toBeUndefined();
  });

  it('is refused where @Idempotent is', () => {
    class Safe {
      @Deduplicate({ window }) @Get() get(): void {}
      @Deduplicate({ window }) @Head() head(): void {}
      @Deduplicate({ window }) @Options() options(): void {}
      @Deduplicate({ window }) @Sse() events(): unknown {
        return EMPTY;
      }
      @Deduplicate({ window }) @messagePattern() paid(): void {}
    }
    @Injectable()
    class Resolver {
      @Deduplicate({ window }) create(): void {}
    }
    const faults = new Faults();
    findRoutes(modulesWith([Safe], [Resolver]), resolveModuleOptions({}, faults), faults);
    expect(() => faults.throwIfAny()).toThrow(
      expect.objectContaining({
        faults: ['Safe.get', 'Safe.head', 'Safe.options', 'Safe.events', 'Safe.paid', 'Resolver.create'].map((where) =>
          expect.objectContaining({ option: '@Deduplicate()', where }),
        ),
      }),
    );
  });

  it('is refused beside @Idempotent, in whatever order, and under one on the class', () => {
    class Both {
      @Idempotent() @Deduplicate({ window }) @Post('above') above(): void {}
      @Deduplicate({ window }) @Idempotent() @Post('below') below(): void {}
    }
    @Idempotent()
    @Controller()
    class Whole {
      @Deduplicate({ window }) @Post() post(): void {}
      @SkipIdempotency() @Deduplicate({ window }) @Post('exempt') exempt(): void {}
      @Deduplicate({ window }) @SkipIdempotency() @Post('too') too(): void {}
    }
    expect(faultsOf([Both, Whole])).toEqual([
      'Both.above stands on a handler that is @Idempotent() as well',
      'Both.below stands on a handler that is @Idempotent() as well',
      'Whole.post stands on a handler of a class that is @Idempotent() as a whole',
    ]);
  });

  it('has its options checked with all others', () => {
    class Faulty {
      @Deduplicate({ window: 'a while' }) @Post() one(): void {}
      @Deduplicate(undefined as never) @Post('two') two(): void {}
    }
    expect(faultsOf([Faulty])).toEqual([expect.stringMatching(/^Faulty\.one is 'a while'/), 'Faulty.two is missing']);
  });
});
