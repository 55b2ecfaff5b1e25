/**
 * Which handler an operation of a document is about. Prefix, versions, lists of paths, modules with a
 * path of their own and the user's operation ids are all at work in a document, and only
 * `@nestjs/swagger` knows how: so it is asked. It makes a copy of the document for which every handler
 * wears a mark; where the mark is found, the handler is.
 */
import { ModulesContainer } from '@nestjs/core';
import type { INestApplication } from '@nestjs/common';
import { DECORATORS, SwaggerModule } from '@nestjs/swagger';
import type { OpenAPIObject } from '@nestjs/swagger';
import { NEST } from '../nest/metadata.js';
import { methodsOf } from '../nest/methods.js';

export type Class = abstract new (...args: never[]) => unknown;
export type Method = (...args: never[]) => unknown;

export interface Handler {
  readonly controller: Class;
  readonly method: Method;
}

export type PathItem = OpenAPIObject['paths'][string];
export type Operation = NonNullable<PathItem['get']>;

/** Every field of a path item that holds an operation, in OpenAPI 3.0 to 3.2. */
export const VERBS = ['get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace', 'query'] as const;
export type Verb = (typeof VERBS)[number] | 'search';

const MARK = 'x-nestjs-idempotency-pg-handler';

/** Ends a controller's name in the copies' operation ids, which go on after it for some handlers. */
const END_OF_NAME = '/';

/** What tells the handler of `verb` at `path` in `document`, as it came from `SwaggerModule.createDocument`. */
export function handlersIn(app: INestApplication, document: OpenAPIObject): (path: string, verb: Verb) => Handler | undefined {
  const handlers = handlersOf(app.get(ModulesContainer, { strict: false }));
  const methods = [...new Set(handlers.map(({ method }) => method))];
  const copy = withMarks(methods, () => markedCopy(app, document));
  return (path, verb) => {
    const operation = copy.paths[path]?.[verb as keyof PathItem] as (Operation & { readonly [MARK]?: number }) | undefined;
    const mark = operation?.[MARK];
    if (operation === undefined || mark === undefined) return undefined;
    // A method can belong to several controllers, by inheritance.
    const candidates = handlers.filter(({ method }) => method === methods[mark]);
    return candidates.find(({ controller }) => operation.operationId?.startsWith(controller.name + END_OF_NAME)) ?? candidates[0];
  };
}

/** A document can have been made without the global prefix, and doesn't say so: its paths do. */
function markedCopy(app: INestApplication, document: OpenAPIObject): OpenAPIObject {
  const head = { openapi: document.openapi, info: document.info };
  const operationIdFactory = (controller: string): string => controller + END_OF_NAME;
  const [prefixed, bare] = [false, true].map((ignoreGlobalPrefix) =>
    SwaggerModule.createDocument(app, head, { ignoreGlobalPrefix, operationIdFactory }),
  ) as [OpenAPIObject, OpenAPIObject];
  const common = ({ paths }: OpenAPIObject): number => Object.keys(paths).filter((path) => path in document.paths).length;
  return common(bare) > common(prefixed) ? bare : prefixed;
}

/** Nobody else sees the marks: nothing waits between their coming and going. */
function withMarks<T>(methods: readonly Method[], work: () => T): T {
  const before = methods.map((method) => Reflect.getOwnMetadata(DECORATORS.API_EXTENSION, method) as object | undefined);
  try {
    methods.forEach((method, mark) => Reflect.defineMetadata(DECORATORS.API_EXTENSION, { ...before[mark], [MARK]: mark }, method));
    return work();
  } finally {
    methods.forEach((method, mark) => {
      if (before[mark] === undefined) Reflect.deleteMetadata(DECORATORS.API_EXTENSION, method);
      else Reflect.defineMetadata(DECORATORS.API_EXTENSION, before[mark], method);
    });
  }
}

function handlersOf(modules: ModulesContainer): Handler[] {
  return [...modules.values()].flatMap(({ controllers }) =>
    [...controllers.values()].flatMap(({ metatype }) => {
      if (typeof metatype !== 'function') return [];
      const controller = metatype as Class;
      return [...methodsOf(controller.prototype as object).values()]
        .map(({ value }) => ({ controller, method: value as Method }))
        .filter(({ method }) => Reflect.hasMetadata(NEST.method, method));
    }),
  );
}
