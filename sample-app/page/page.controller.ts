import { Controller, Get, Header, NotFoundException, Param, StreamableFile } from '@nestjs/common';
import { Public } from '../auth/public.js';
import { DEMO_USERS } from '../auth/users.js';
import { PageFiles } from './page-files.js';

/** Everything comes from here, nothing is written into the markup, and nobody may frame it. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

export interface Customer {
  readonly name: string;
  readonly email: string;
  readonly token: string;
}

@Controller()
export class PageController {
  constructor(private readonly files: PageFiles) {}

  @Get()
  @Public(true)
  @Header('Content-Security-Policy', POLICY)
  @Header('Cache-Control', 'no-cache')
  page(): StreamableFile {
    return this.serve('index.html');
  }

  @Get(['page/files/:name', 'page/files/:folder/:name'])
  @Public(true)
  @Header('X-Content-Type-Options', 'nosniff')
  @Header('Cache-Control', 'no-cache')
  file(@Param('folder') folder: string | undefined, @Param('name') name: string): StreamableFile {
    return this.serve(folder === undefined ? name : `${folder}/${name}`);
  }

  /** Who the visitor may be. No real shop has such a route; here the tokens are printed on the door. */
  @Get('page/customers')
  @Public(true)
  customers(): Customer[] {
    return [...DEMO_USERS].map(([token, { name, email }]) => ({ name, email, token }));
  }

  private serve(name: string): StreamableFile {
    const file = this.files.find(name);
    if (file === undefined) throw new NotFoundException('The page has no such file.');
    return new StreamableFile(file.bytes, { type: file.type, length: file.bytes.length });
  }
}
