/**
 * Tells in an OpenAPI document what the decorators promise. It reads what the module resolved at boot,
 * so that a document can't say anything else than what the application does; what the user has
 * documented himself stands.
 */
import type { INestApplication } from '@nestjs/common';
import { ModulesContainer } from '@nestjs/core';
import type { OpenAPIObject } from '@nestjs/swagger';
import type { ResolvedOptions } from '../nest/resolve-options.js';
import type { IdempotentRoutes } from '../nest/routes.js';
import { RESOLVED_OPTIONS, ROUTES } from '../nest/tokens.js';
import { VERBS, handlersIn } from './handlers.js';
import type { PathItem } from './handlers.js';
import { annotated } from './annotated.js';
import { notesOf } from './notes.js';
import type { Notes } from './notes.js';
import { PROBLEM, problemSchema } from './problem-schema.js';

/**
 * Returns `document` with the key's header, the answers of this library with their codes, and
 * `Idempotent-Replayed`, on every idempotent route; and likewise for `@Deduplicate()`, `@RequireIfMatch()`
 * and `@VersionETag()`. What is documented already stays as it is, and is only added to. Give it a document as `SwaggerModule.createDocument`
 * made it, before paths are changed.
 *
 * ```ts
 * const document = SwaggerModule.createDocument(app, config);
 * SwaggerModule.setup('docs', app, documentIdempotency(app, document));
 * ```
 *
 * @throws Error when the application has no `IdempotencyModule`
 */
export function documentIdempotency(app: INestApplication, document: OpenAPIObject): OpenAPIObject {
  const { routes, options } = boot(app);
  const handlerOf = handlersIn(app, document);
  const all: Notes[] = [];
  const paths = Object.entries(document.paths).map(([path, item]) => {
    const documented: PathItem = { ...item };
    for (const verb of VERBS) {
      const operation = item[verb as 'post'];
      const handler = handlerOf(path, verb);
      if (operation === undefined || handler === undefined) continue;
      const notes = notesOf(handler, verb, routes);
      all.push(notes);
      documented[verb as 'post'] = annotated(operation, notes, {
        format: options.errorFormat,
        inherited: item.parameters ?? [],
        shared: document.components?.parameters ?? {},
      });
    }
    return [path, documented] as const;
  });
  const codes = new Set(all.flatMap(({ refusals }) => refusals.map(({ code }) => code)));
  if (codes.size === 0) return { ...document, paths: Object.fromEntries(paths) };
  const schemas = { [PROBLEM]: problemSchema([...codes].sort(), options.errorFormat), ...document.components?.schemas };
  return { ...document, paths: Object.fromEntries(paths), components: { ...document.components, schemas } };
}

/** Looked for rather than asked for: for what is not there, an application's `get` ends the process. */
function boot(app: INestApplication): { readonly routes: IdempotentRoutes; readonly options: ResolvedOptions } {
  const modules = [...app.get(ModulesContainer, { strict: false }).values()];
  const ours = modules.find(({ providers }) => providers.has(ROUTES))?.providers;
  if (ours === undefined) {
    throw new Error('documentIdempotency() needs IdempotencyModule in the application: import IdempotencyModule.forRoot().');
  }
  return { routes: ours.get(ROUTES)?.instance as IdempotentRoutes, options: ours.get(RESOLVED_OPTIONS)?.instance as ResolvedOptions };
}
