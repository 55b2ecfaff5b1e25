import { Controller, Get, Header, Req } from '@nestjs/common';
import type { Request } from 'express';
import { Public } from '../auth/public.js';
import { thingsToTry } from './things-to-try.js';

@Controller()
export class WelcomeController {
  @Get('things-to-try')
  @Public(true)
  @Header('Content-Type', 'text/html; charset=utf-8')
  @Header('Content-Security-Policy', "default-src 'none'; style-src 'unsafe-inline'")
  page(@Req() request: Request): string {
    const items = thingsToTry(`${request.protocol}://${request.headers.host ?? 'localhost'}`).map(
      ({ what, command }) => `<li><p>${escape(what)}</p><pre tabindex="0"><code>${escape(command)}</code></pre></li>`,
    );
    return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Things to try · A shop that charges once</title>
<style>
  :root { color-scheme: light dark; }
  body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; font: 1.05rem/1.5 system-ui, sans-serif; }
  pre { overflow-x: auto; padding: .75rem 1rem; border: 1px solid GrayText; border-radius: .4rem; font-size: .9rem; }
  pre:focus-visible { outline: 2px solid Highlight; }
</style>
</head>
<body>
<main>
<h1>Things to try</h1>
<p><a href="/">The page</a> shows the same with buttons. Every <code>POST</code> here can be retried safely: the first request with a key runs the handler, every later one
gets the first answer, byte for byte. Paste these lines into a shell:</p>
<ol>
${items.join('\n')}
</ol>
<p>The customers are <code>alice-token</code>, <code>bob-token</code> and <code>carol-token</code>. One customer's keys mean nothing to another.</p>
</main>
</body>
</html>
`;
  }
}

/** The host is the client's word, and must not become markup. */
function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
