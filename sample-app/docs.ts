/** The shop's API in words for clients: at /docs, and as JSON at /docs-json. */
import type { INestApplication } from '@nestjs/common';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import type { OpenAPIObject } from '@nestjs/swagger';
import { documentIdempotency } from '../lib/swagger/index.js';

export function serveDocs(app: INestApplication): void {
  SwaggerModule.setup('docs', app, apiDocument(app));
}

export function apiDocument(app: INestApplication): OpenAPIObject {
  const config = new DocumentBuilder().setTitle('A shop that charges once').setVersion('1').addBearerAuth().build();
  return documentIdempotency(app, SwaggerModule.createDocument(app, config));
}
