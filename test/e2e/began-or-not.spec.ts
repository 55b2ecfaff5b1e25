import { beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  Body,
  Controller,
  ForbiddenException,
  HttpException,
  Injectable,
  Param,
  ParseIntPipe,
  Post,
  ServiceUnavailableException,
  UseGuards,
  UseInterceptors,
  ValidationPipe,
} from '@nestjs/common';
import type { CallHandler, CanActivate, ExecutionContext, NestInterceptor, PipeTransform } from '@nestjs/common';
import { IsInt, IsPositive } from 'class-validator';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { concatMap, defer, of, retry, throwError, timer } from 'rxjs';
import type { Observable } from 'rxjs';
import { IdempotencyEvents, Idempotent } from '../../lib/index.js';
import type { IdempotencyEvent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { bare } from './support/platform-response.js';
import type { PlatformResponse } from './support/platform-response.js';
import { isReplay, json, send } from './support/wire.js';
import type { Answer, Sent } from './support/wire.js';

const shared = bench();
const ledger = new Ledger();
const runOf = (answer: Answer): unknown => (json(answer) as { run?: unknown }).run;

/** What stands in the way, until a test clears it. */
let inTheWay: 'refuse' | 'throw' | 'answer' | 'answer-late' | 'write' | 'nothing' = 'nothing';

/** Runs whose number is this modulo 2 fail on the retried route. */
const retriedRuns = { refused: 0 };

class Payment {
  @IsInt()
  @IsPositive()
  amount!: number;
}

class Guard implements CanActivate {
  canActivate(): boolean {
    if (inTheWay === 'throw') throw new ForbiddenException('not today');
    return inTheWay !== 'refuse';
  }
}

@Injectable()
class Gate implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    switch (inTheWay) {
      case 'refuse':
        throw new HttpException('kept out', 409);
      case 'throw':
        return throwError(() => new ServiceUnavailableException());
      case 'answer':
        return of({ cached: true });
      case 'answer-late':
        return timer(5).pipe(concatMap(() => of({ cached: true })));
      case 'write': {
        const raw = bare(context.switchToHttp().getResponse<PlatformResponse>());
        raw.writeHead(203, { 'content-type': 'application/json' }).end('{"cached":true}');
        return of(undefined);
      }
      case 'nothing':
        return next.handle();
    }
  }
}

class FailingPipe implements PipeTransform {
  async transform(value: unknown): Promise<unknown> {
    await Promise.resolve();
    if (inTheWay !== 'nothing') throw new TypeError('the directory is away');
    return value;
  }
}

/** Tries again by itself what failed, first its own doing and then the handler's. */
class Retrying implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    let tries = 0;
    return defer(() => (tries++ === 0 ? throwError(() => new Error('first try')) : next.handle())).pipe(retry(2));
  }
}

@Controller()
@Idempotent()
class Payments {
  @Post('guarded')
  @UseGuards(Guard)
  guarded(): object {
    return { run: ledger.run('guarded') };
  }

  @Post('validated')
  validated(@Body(new ValidationPipe({ transform: true })) payment: Payment): object {
    return { run: ledger.run('validated'), amount: payment.amount };
  }

  @Post('numbers/:id')
  numbers(@Param('id', ParseIntPipe) id: number): object {
    return { run: ledger.run('numbers'), id };
  }

  @Post('piped')
  piped(@Body(new FailingPipe()) _body: unknown): object {
    return { run: ledger.run('piped') };
  }

  @Post('gated')
  @UseInterceptors(Gate)
  gated(): object {
    return { run: ledger.run('gated') };
  }

  @Post('retried')
  @UseInterceptors(Retrying)
  async retried(): Promise<object> {
    const run = ledger.run('retried');
    await Promise.resolve();
    if (run % 2 === retriedRuns.refused) throw new Error('second try');
    return { run };
  }

  @Post('begun')
  begun(): never {
    throw new HttpException({ run: ledger.run('begun') }, 422);
  }
}

describe.each(PLATFORMS)('a key whose handler did not begin, on %s,', (platform) => {
  const events: IdempotencyEvent[] = [];
  let app: RunningApp;
  beforeAll(async () => {
    app = await shared.start(platform, { controllers: [Payments] });
    app.app.get(IdempotencyEvents).events$.subscribe((event) => events.push(event));
  });
  beforeEach(() => {
    inTheWay = 'nothing';
    events.length = 0;
  });
  const post = (path: string, sent: Sent): Promise<Answer> => send(`${app.url}${path}`, sent);

  /** Refused first, then let through; the same key both times. */
  const refusedThenRun = async (path: string, obstacle: typeof inTheWay): Promise<Answer> => {
    const key = newKey();
    const before = ledger.total;
    inTheWay = obstacle;
    const refused = await post(path, { key });
    expect([ledger.total, await shared.records(key), isReplay(refused)]).toEqual([before, 0, false]);
    inTheWay = 'nothing';
    const [first, second] = [await post(path, { key }), await post(path, { key })];
    expect([first.status, isReplay(first), isReplay(second), runOf(second)]).toEqual([201, false, true, runOf(first)]);
    expect(ledger.total).toBe(before + 1);
    return refused;
  };

  it.each(['refuse', 'throw'] as const)('stays free when a guard does not let it in (%s)', async (how) => {
    expect((await refusedThenRun('/guarded', how)).status).toBe(403);
    expect(events.map(({ type }) => type)).toEqual(['claimed', 'completed', 'replayed']); // the guard came before the claim
  });

  it('stays free when validation refuses the body, even for the corrected one', async () => {
    const key = newKey();
    const refused = await post('/validated', { key, body: { amount: -1 } });
    expect([refused.status, ledger.runs('validated'), await shared.records(key)]).toEqual([400, ledger.runs('validated'), 0]);
    const corrected = await post('/validated', { key, body: { amount: 1 } });
    expect([corrected.status, isReplay(corrected), json(corrected)]).toEqual([201, false, expect.objectContaining({ amount: 1 })]);
    expect(isReplay(await post('/validated', { key, body: { amount: 1 } }))).toBe(true);
  });

  it('stays free when a parameter is none', async () => {
    const key = newKey();
    expect((await post('/numbers/x', { key })).status).toBe(400);
    expect(await shared.records(key)).toBe(0);
    expect((await post('/numbers/1', { key })).status).toBe(201);
  });

  it('stays free when a pipe fails', async () => {
    expect((await refusedThenRun('/piped', 'throw')).status).toBe(500);
  });

  it.each<[what: typeof inTheWay, status: number]>([
    ['refuse', 409],
    ['throw', 503],
    ['answer', 201],
    ['answer-late', 201],
    ['write', 203],
  ])('stays free when an inner interceptor is in the way (%s)', async (obstacle, status) => {
    const refused = await refusedThenRun('/gated', obstacle);
    expect(refused.status).toBe(status);
    if (status < 400) expect(json(refused)).toEqual({ cached: true });
    expect(events.map(({ type }) => type)).toEqual(['claimed', 'released', 'claimed', 'completed', 'replayed']);
  });

  it('is free before the refusal has arrived', async () => {
    const key = newKey();
    for (let round = 0; round < 20; round++) {
      expect((await post('/numbers/x', { key })).status).toBe(400);
    }
    expect(events.filter(({ type }) => type === 'rejected')).toEqual([]);
  });

  it('is used all the same when an interceptor called the handler at its second and third try', async () => {
    const sent = { key: newKey() };
    retriedRuns.refused = (ledger.total + 1) % 2;
    const [first, second] = [await post('/retried', sent), await post('/retried', sent)];
    expect([first.status, isReplay(second), runOf(second)]).toEqual([201, true, runOf(first)]);
    expect(runOf(first)).toBe(ledger.total);
  });

  it('is told from one whose handler began and threw the same', async () => {
    const sent = { key: newKey() };
    const [first, second] = [await post('/begun', sent), await post('/begun', sent)];
    expect([first.status, isReplay(second), runOf(second)]).toEqual([422, true, runOf(first)]);
  });

  it('is not even looked at for a route that there is not', async () => {
    const key = newKey();
    expect((await post('/no-such-route', { key })).status).toBe(404);
    expect([await shared.records(key), events]).toEqual([0, []]);
  });

  it('stays free when a middleware answers', async () => {
    let closed = true;
    const configure = (nest: RunningApp['app']): void => {
      nest.use((_request: IncomingMessage, response: ServerResponse, next: () => void) => {
        if (closed) response.writeHead(503).end();
        else next();
      });
    };
    await shared.within(platform, { controllers: [Payments], configure }, async ({ url }) => {
      const key = newKey();
      expect((await send(`${url}/gated`, { key })).status).toBe(503);
      closed = false;
      expect((await send(`${url}/gated`, { key })).status).toBe(201);
    });
  });
});
