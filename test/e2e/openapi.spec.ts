/** What documentIdempotency() says of routes, in documents as applications make them. */
import { All, Controller, Delete, Get, Module, Post, Put, VersioningType } from '@nestjs/common';
import type { INestApplication, Type } from '@nestjs/common';
import { NestFactory, RouterModule } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import {
  ApiBadRequestResponse,
  ApiConflictResponse,
  ApiCreatedResponse,
  ApiExcludeEndpoint,
  ApiResponse,
  ApiHeader,
  ApiOperation,
  DocumentBuilder,
  SwaggerModule,
} from '@nestjs/swagger';
import type { OpenAPIObject, SwaggerDocumentOptions } from '@nestjs/swagger';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Deduplicate, Idempotent, RequireIfMatch, VersionETag } from '../../lib/index.js';
import type { IdempotencyModuleOptions } from '../../lib/index.js';
import { documentIdempotency } from '../../lib/swagger/index.js';
import { AppModule } from '../../sample-app/app.module.js';
import { apiDocument, serveDocs } from '../../sample-app/docs.js';
import { readSettings } from '../../sample-app/settings.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, Platform } from '../support/app.js';
import { createTestDatabase, migrate } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';
import { bench } from './support/bench.js';

const stage = bench();

beforeAll(() => migrate(stage.database(), undefined, { maxLiveKeys: true }));

interface Choices {
  readonly parts?: Partial<AppParts>;
  readonly options?: IdempotencyModuleOptions;
  readonly document?: SwaggerDocumentOptions;
  /** After the document is made and before it is given. */
  readonly change?: (made: OpenAPIObject, app: INestApplication) => void;
}

async function documentOf(platform: Platform, controllers: Type[], choices: Choices = {}): Promise<OpenAPIObject> {
  const { parts = {}, options = {}, document = {}, change } = choices;
  let made: OpenAPIObject | undefined;
  await stage.within(
    platform,
    {
      controllers,
      options,
      ...parts,
      async configure(app, on) {
        await parts.configure?.(app, on);
        const own = SwaggerModule.createDocument(app, new DocumentBuilder().build(), document);
        change?.(own, app);
        made = documentIdempotency(app, own);
      },
    },
    () => Promise.resolve(),
  );
  return made as OpenAPIObject;
}

type Verb = 'get' | 'post' | 'put' | 'delete' | 'patch';

/** One operation, in the few words that tests compare. */
function told({ paths }: OpenAPIObject, path: string, verb: Verb = 'post') {
  const operation = paths[path]?.[verb];
  if (operation === undefined) throw new Error(`There is no ${verb} ${path}, but ${Object.keys(paths).join(', ')}.`);
  const parameters = (operation.parameters ?? []).flatMap((parameter) => ('$ref' in parameter ? [] : [parameter]));
  const answer = (status: string) => operation.responses[status] as Answer | undefined;
  return {
    operation,
    headers: parameters.filter((parameter) => parameter.in === 'header'),
    answer,
    headersOf: (status: string) => Object.keys(answer(status)?.headers ?? {}),
    codes: Object.fromEntries(
      Object.entries(operation.responses).flatMap(([status]) => {
        const examples = Object.values(answer(status)?.content ?? {}).flatMap(({ examples = {} }) => Object.keys(examples));
        return examples.length === 0 ? [] : [[status, examples]];
      }),
    ),
  };
}

interface Answer {
  readonly description: string;
  readonly headers?: Readonly<Record<string, unknown>>;
  readonly content?: Readonly<
    Record<string, { readonly schema?: unknown; readonly examples?: Readonly<Record<string, { readonly value: Record<string, unknown> }>> }>
  >;
}

@Controller('charges')
class Charges {
  @Post()
  @Idempotent()
  create(): string {
    return 'charged';
  }

  @Post('strict')
  @Idempotent({ required: true, keyFormat: 'uuid', atomic: true, onLostExecution: 'reject', onDuplicate: 'wait', maxLiveKeys: 10 })
  strict(): string {
    return 'charged';
  }

  @Post(':id/capture')
  @Idempotent({ keyFrom: { param: 'id' } })
  capture(): string {
    return 'captured';
  }

  @Post('patterned')
  @Idempotent({ keyFormat: /^ord_[a-z]+$/, keyFrom: { header: ['X-Order-Key', 'Idempotency-Key'] }, required: true })
  patterned(): string {
    return 'charged';
  }

  @Post('clicks')
  @Deduplicate({ window: '10s' })
  click(): string {
    return 'clicked';
  }

  @Get()
  @VersionETag(() => 1)
  list(): string[] {
    return [];
  }

  @Put()
  @RequireIfMatch()
  @VersionETag(() => 2)
  replace(): string[] {
    return [];
  }

  @All('any')
  @Idempotent()
  any(): string {
    return 'any';
  }

  @Delete('plain')
  plain(): string {
    return 'gone';
  }
}

@RequireIfMatch()
@Controller('conditional')
class Conditional {
  @Put()
  replace(): string {
    return 'replaced';
  }

  @Post()
  add(): string {
    return 'added';
  }
}

describe.each(PLATFORMS)('a document on %s', (platform) => {
  it('tells of the key, of every answer with its codes, and of replays', async () => {
    const document = await documentOf(platform, [Charges]);
    const { headers, codes, headersOf, answer } = told(document, '/charges');
    expect(headers).toEqual([
      {
        name: 'Idempotency-Key',
        in: 'header',
        required: false,
        description: expect.stringContaining('safe to retry'),
        schema: { type: 'string', minLength: 1, maxLength: 255 },
        example: expect.stringMatching(/^[0-9a-f-]{36}$/),
      },
    ]);
    expect(codes).toEqual({
      400: ['IDEMPOTENCY_KEY_INVALID'],
      409: ['IDEMPOTENCY_KEY_IN_USE', 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE'],
      422: ['IDEMPOTENCY_KEY_REUSED'],
      503: ['IDEMPOTENCY_STORE_UNAVAILABLE'],
    });
    expect(['201', '400', '409', '422', '503'].map(headersOf)).toEqual([['Idempotent-Replayed'], [], ['Retry-After'], [], ['Retry-After']]);
    expect(answer('409')?.description).toContain('`IDEMPOTENCY_KEY_IN_USE`');
  });

  it('shows bodies in the component that all refusals share', async () => {
    const document = await documentOf(platform, [Charges]);
    const { answer } = told(document, '/charges/strict');
    const content = answer('422')?.content?.['application/problem+json'];
    expect(content?.schema).toEqual({ $ref: '#/components/schemas/IdempotencyProblem' });
    expect(content?.examples?.['IDEMPOTENCY_KEY_REUSED']?.value).toMatchObject({ status: 422, code: 'IDEMPOTENCY_KEY_REUSED' });
    expect(document.components?.schemas?.['IdempotencyProblem']).toMatchObject({
      required: ['type', 'title', 'status', 'detail', 'code'],
      properties: { code: { enum: expect.arrayContaining(['IDEMPOTENCY_KEY_REQUIRED', 'IDEMPOTENCY_TRANSACTION_FAILED']) } },
    });
  });

  it('tells what a route asks of its keys, and of waiting', async () => {
    const document = await documentOf(platform, [Charges]);
    const strict = told(document, '/charges/strict');
    expect(strict.headers).toEqual([
      expect.objectContaining({ name: 'Idempotency-Key', required: true, schema: expect.objectContaining({ format: 'uuid' }) }),
      expect.objectContaining({ name: 'Prefer', required: false }),
    ]);
    expect(strict.headersOf('201')).toEqual(['Idempotent-Replayed', 'Preference-Applied']);
    expect(strict.codes).toEqual({
      400: ['IDEMPOTENCY_KEY_REQUIRED', 'IDEMPOTENCY_KEY_INVALID'],
      409: ['IDEMPOTENCY_KEY_IN_USE', 'IDEMPOTENCY_OUTCOME_UNKNOWN', 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE'],
      422: ['IDEMPOTENCY_KEY_REUSED'],
      429: ['IDEMPOTENCY_TOO_MANY_KEYS'],
      503: ['IDEMPOTENCY_STORE_UNAVAILABLE', 'IDEMPOTENCY_TRANSACTION_FAILED'],
    });
    expect(strict.headersOf('429')).toEqual(['Retry-After']);

    const patterned = told(document, '/charges/patterned');
    expect(patterned.headers.map(({ name, required, schema }) => [name, required, (schema as { pattern?: string }).pattern])).toEqual([
      ['X-Order-Key', false, '^ord_[a-z]+$'],
      ['Idempotency-Key', false, '^ord_[a-z]+$'],
    ]);
    expect(patterned.headers[0]).not.toHaveProperty('example'); // a UUID would be refused
  });

  it('takes the names of the header from the module', async () => {
    const document = await documentOf(platform, [Charges], { options: { header: 'X-Request-Key', required: true } });
    expect(told(document, '/charges').headers).toEqual([expect.objectContaining({ name: 'X-Request-Key', required: true })]);
  });

  it('tells of the answers of a natural key, and of no header, and of no other request that could have it', async () => {
    const { headers, codes, headersOf } = told(await documentOf(platform, [Charges]), '/charges/{id}/capture');
    expect(headers).toEqual([]);
    expect(Object.keys(codes)).toEqual(['400', '409', '503']);
    expect(headersOf('201')).toEqual(['Idempotent-Replayed']);
  });

  it('tells of duplicates, preconditions and versions', async () => {
    const document = await documentOf(platform, [Charges, Conditional]);
    const click = told(document, '/charges/clicks');
    expect([click.headers, click.codes, click.headersOf('201'), click.headersOf('409')]).toEqual([
      [],
      { 409: ['IDEMPOTENCY_DUPLICATE_REQUEST'], 503: ['IDEMPOTENCY_STORE_UNAVAILABLE'] },
      [],
      ['Retry-After'],
    ]);

    const preconditions = { 400: ['PRECONDITION_INVALID'], 412: ['PRECONDITION_FAILED'], 428: ['PRECONDITION_REQUIRED'] };
    for (const path of ['/charges', '/conditional']) {
      const put = told(document, path, 'put');
      expect(put.headers).toEqual([expect.objectContaining({ name: 'If-Match', required: true })]);
      expect(put.codes).toEqual(preconditions);
    }
    expect(told(document, '/conditional').codes).toEqual({}); // a POST is not covered by its class
    expect(told(document, '/charges', 'put').headersOf('200')).toEqual(['ETag']);

    const read = told(document, '/charges', 'get');
    expect(read.headers).toEqual([expect.objectContaining({ name: 'If-None-Match', required: false })]);
    expect([read.headersOf('200'), read.headersOf('304'), read.codes]).toEqual([['ETag'], ['ETag'], {}]);
  });

  it('leaves operations alone that promise nothing', async () => {
    const document = await documentOf(platform, [Charges]);
    expect(told(document, '/charges/plain', 'delete').codes).toEqual({});
    expect(told(document, '/charges/any', 'get').codes).toEqual({}); // reading is safe as it is
    expect(told(document, '/charges/any', 'post').headers).toHaveLength(1);
    expect(JSON.stringify(document)).not.toContain('x-nestjs-idempotency-pg');
  });

  it("words refusals as Nest's own where the application does", async () => {
    const document = await documentOf(platform, [Charges], { options: { errorFormat: 'nest' } });
    const content = told(document, '/charges').answer('422')?.content;
    expect(Object.keys(content ?? {})).toEqual(['application/json']);
    expect(content?.['application/json']?.examples?.['IDEMPOTENCY_KEY_REUSED']?.value).toMatchObject({ statusCode: 422 });
    expect(document.components?.schemas?.['IdempotencyProblem']).toMatchObject({ required: ['statusCode', 'error', 'code', 'message'] });
  });

  it('says the same as the answer', async () => {
    const document = await documentOf(platform, [Charges]);
    const example = told(document, '/charges/strict').answer('400')?.content?.['application/problem+json']?.examples;
    await stage.within(platform, { controllers: [Charges] }, async ({ post }) => {
      const refused = await post('/charges/strict');
      expect(await refused.json()).toEqual(example?.['IDEMPOTENCY_KEY_REQUIRED']?.value);
      expect(refused.headers.get('content-type')).toContain('application/problem+json');
    });
  });
});

describe.each(PLATFORMS)('on %s a handler is found', (platform) => {
  const isTold = (document: OpenAPIObject, path: string, verb?: Verb): boolean =>
    told(document, path, verb).headersOf('201').includes('Idempotent-Replayed');

  @Controller({ path: ['alpha', 'beta'], version: ['1', '2'] })
  class Several {
    @Post(['one', 'two'])
    @Idempotent()
    create(): string {
      return 'made';
    }
  }

  // Two classes of one name, as applications have them in a folder for each version.
  const first = (() => {
    @Controller({ path: 'users', version: '1' })
    class Users {
      @Post()
      @Idempotent()
      create(): string {
        return 'made';
      }
    }
    return Users;
  })();
  const second = (() => {
    @Controller({ path: 'users', version: '2' })
    class Users {
      @Post()
      create(): string {
        return 'made';
      }
    }
    return Users;
  })();

  const versioned = {
    configure: (app: INestApplication): void => {
      app.setGlobalPrefix('api', { exclude: ['health'] });
      app.enableVersioning({ type: VersioningType.URI });
    },
  };

  it('behind a prefix, in every version, at every path of a list', async () => {
    const document = await documentOf(platform, [Several], { parts: versioned });
    const paths = ['1', '2'].flatMap((v) => ['alpha', 'beta'].flatMap((a) => ['one', 'two'].map((b) => `/api/v${v}/${a}/${b}`)));
    expect(Object.keys(document.paths).sort()).toEqual(paths.sort());
    expect(paths.filter((path) => !isTold(document, path))).toEqual([]);
  });

  it('when the document leaves the prefix out', async () => {
    const document = await documentOf(platform, [Several], { parts: versioned, document: { ignoreGlobalPrefix: true } });
    expect(isTold(document, '/v1/alpha/one')).toBe(true);
  });

  it('among classes of the same name, whatever the operations are called', async () => {
    for (const operationIdFactory of [undefined, (_: string, method: string) => method]) {
      const choices = operationIdFactory === undefined ? {} : { document: { operationIdFactory } };
      const document = await documentOf(platform, [first, second], { parts: versioned, ...choices });
      expect([isTold(document, '/api/v1/users'), isTold(document, '/api/v2/users')]).toEqual([true, false]);
    }
  });

  it('with an operation id of its own, below a module with a path, and not at all where it is excluded', async () => {
    @Controller('things')
    class Things {
      @Post(':id')
      @ApiOperation({ operationId: 'makeThing' })
      @Idempotent()
      make(): string {
        return 'made';
      }

      @Post()
      @ApiExcludeEndpoint()
      @Idempotent()
      hidden(): string {
        return 'made';
      }
    }
    @Module({ controllers: [Things] })
    class ThingsModule {}
    const imports = [ThingsModule, RouterModule.register([{ path: 'shelf', module: ThingsModule }])];
    const document = await documentOf(platform, [], { parts: { imports } });
    expect(Object.keys(document.paths)).toEqual(['/shelf/things/{id}']);
    expect(isTold(document, '/shelf/things/{id}')).toBe(true);
    expect(told(document, '/shelf/things/{id}').operation.operationId).toBe('makeThing');
  });

  it('by its own class where several inherit it', async () => {
    abstract class Base {
      @Put()
      replace(): string {
        return 'replaced';
      }
    }
    @Controller('open')
    class Open extends Base {}
    @RequireIfMatch()
    @Controller('guarded')
    class Guarded extends Base {}
    const document = await documentOf(platform, [Open, Guarded]);
    expect(told(document, '/open', 'put').codes).toEqual({});
    expect(Object.keys(told(document, '/guarded', 'put').codes)).toEqual(['400', '412', '428']);
  });
});

describe.each(PLATFORMS)('on %s the word of the user', (platform) => {
  @Controller('own')
  class Own {
    @Post()
    @Idempotent()
    @ApiHeader({ name: 'idempotency-key', description: 'My words.', example: 'order-1' })
    @ApiBadRequestResponse({ description: 'The order is no order.', schema: { type: 'object' } })
    @ApiConflictResponse({ description: 'Sold out.', headers: { 'retry-after': { description: 'Mine.', schema: { type: 'string' } } } })
    @ApiCreatedResponse({ description: 'Ordered.', headers: { Location: { schema: { type: 'string' } } } })
    create(): string {
      return 'made';
    }

    @Post('referred')
    @Idempotent()
    @ApiResponse({ status: 422, content: { 'application/problem+json': { schema: { type: 'string' }, example: 'mine' } } })
    referred(): string {
      return 'made';
    }
  }

  it('stands, and is added to', async () => {
    const { headers, answer } = told(await documentOf(platform, [Own]), '/own');
    expect(headers).toEqual([
      {
        name: 'idempotency-key',
        in: 'header',
        description: 'My words.',
        required: false,
        schema: { type: 'string', minLength: 1, maxLength: 255, example: 'order-1' },
      },
    ]);
    expect(answer('400')).toMatchObject({
      description: 'The order is no order.',
      content: { 'application/json': { schema: { type: 'object' } } },
    });
    expect(Object.keys(answer('400')?.content ?? {})).toEqual(['application/json', 'application/problem+json']);
    expect(answer('409')?.headers).toEqual({ 'retry-after': { description: 'Mine.', schema: { type: 'string' } } });
    expect(answer('409')).toMatchObject({ description: 'Sold out.' });
    expect(Object.keys(answer('201')?.headers ?? {})).toEqual(['Location', 'Idempotent-Replayed']);
  });

  it('stands within a media type too', async () => {
    const { answer } = told(await documentOf(platform, [Own]), '/own/referred');
    expect(answer('422')?.content).toEqual({ 'application/problem+json': { schema: { type: 'string' }, example: 'mine' } });
  });

  it('stands in the components, and is found by a reference', async () => {
    const document = await documentOf(platform, [Own], {
      change(made) {
        made.components = { ...made.components, schemas: { IdempotencyProblem: { type: 'object' } } };
        made.components.parameters = { Key: { name: 'Idempotency-Key', in: 'header' } };
        made.paths['/own']!.parameters = [{ name: 'idempotency-key', in: 'header' }];
        made.paths['/own']!.post!.parameters = [];
        made.paths['/own/referred']!.post!.parameters = [{ $ref: '#/components/parameters/Key' }];
      },
    });
    expect(document.components?.schemas?.['IdempotencyProblem']).toEqual({ type: 'object' });
    expect(document.paths['/own/referred']?.post?.parameters).toEqual([{ $ref: '#/components/parameters/Key' }]);
    expect(told(document, '/own').headers).toEqual([]); // the whole path has it
  });

  it('is not changed in the document that was given, and a second time changes nothing', async () => {
    let before = '';
    let given: OpenAPIObject | undefined;
    let again: OpenAPIObject | undefined;
    const document = await documentOf(platform, [Own, Charges], {
      change(made, app) {
        given = made;
        before = JSON.stringify(made);
        again = documentIdempotency(app, documentIdempotency(app, made));
      },
    });
    expect(JSON.stringify(given)).toBe(before);
    expect(again).toEqual(document);
  });
});

describe.each(PLATFORMS)("the shop's document on %s", (platform) => {
  let database: TestDatabase;
  let shop: INestApplication;
  let document: OpenAPIObject;

  beforeAll(async () => {
    database = await createTestDatabase();
    const settings = readSettings({ PROVIDER_DELAY_MS: '0' }, database.url);
    const options = { logger: false, rawBody: true, abortOnError: false } as const;
    const app = AppModule.with(settings);
    shop =
      platform === 'express'
        ? await NestFactory.create(app, options)
        : await NestFactory.create<NestFastifyApplication>(app, new FastifyAdapter({ forceCloseConnections: true }), options);
    if (platform === 'express') serveDocs(shop); // on Fastify its pages need one package more
    document = apiDocument(shop);
    await shop.listen(0, '127.0.0.1');
  });
  afterAll(async () => {
    await shop.close();
    await database.drop();
  });

  it('tells of a payment: the key it needs, and all that may come', () => {
    const { headers, codes, headersOf } = told(document, '/payments');
    expect(headers).toEqual([expect.objectContaining({ name: 'Idempotency-Key', required: true })]);
    expect(codes).toEqual({
      400: ['IDEMPOTENCY_KEY_REQUIRED', 'IDEMPOTENCY_KEY_INVALID'],
      409: ['IDEMPOTENCY_KEY_IN_USE', 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE'],
      422: ['IDEMPOTENCY_KEY_REUSED'],
      503: ['IDEMPOTENCY_STORE_UNAVAILABLE', 'IDEMPOTENCY_TRANSACTION_FAILED'],
    });
    expect(headersOf('201')).toEqual(['Idempotent-Replayed']);
    expect(told(document, '/payments', 'get').codes).toEqual({});
  });

  it('is served', async () => {
    if (platform === 'fastify') return;
    const { port } = shop.getHttpServer().address() as { port: number };
    const page = await fetch(`http://127.0.0.1:${port}/docs`);
    expect([page.status, page.headers.get('content-type')]).toEqual([200, expect.stringContaining('text/html')]);
    expect(await (await fetch(`http://127.0.0.1:${port}/docs-json`)).json()).toEqual(JSON.parse(JSON.stringify(document)));
  });

  it('tells of its other patterns', () => {
    expect(told(document, '/orders').headers).toEqual([expect.objectContaining({ required: false })]);
    expect(told(document, '/contact').codes[409]).toEqual(['IDEMPOTENCY_DUPLICATE_REQUEST']);
    expect(Object.keys(told(document, '/profile', 'put').codes)).toEqual(['400', '412', '428']);
    expect(told(document, '/profile', 'get').headersOf('200')).toEqual(['ETag']);
    const natural = told(document, '/reservations/{reference}/commit');
    expect(natural.headers.map(({ name }) => name)).toEqual(['Prefer']);
    expect(Object.keys(natural.codes)).toEqual(['400', '409', '503']);
  });
});

describe('documentIdempotency', () => {
  it('asks for the module where there is none', async () => {
    @Module({})
    class Empty {}
    const app = await NestFactory.create(Empty, { logger: false });
    const document = SwaggerModule.createDocument(app, new DocumentBuilder().build());
    expect(() => documentIdempotency(app, document)).toThrow('IdempotencyModule.forRoot()');
    await app.close();
  });
});
