/**
 * Of all requests of this process with one key, one at a time asks the store. What it finds is for the
 * others too, and what is at work right here, or was read again and again a moment ago, nobody need ask.
 *
 * A request may be told what a look has seen that was sent after it came. Of one that was under way
 * already it may only be told what can't have changed since: an answer stays until it expires, but
 * whatever was at work elsewhere may be done by now, and the client know it. So it asks once more,
 * together with all the others that have come meanwhile.
 *
 * It decides who asks and who hears of it; what follows from a finding is the claims' business.
 */
import { ById } from '../contract/by-id.js';
import type { Clock } from '../contract/clock.js';
import { StoreUnavailable, isIdempotencyError } from '../contract/errors.js';
import type { Claim, FoundRecord, Identity } from '../contract/record.js';
import { claimOf } from './admission.js';
import type { Admission } from './admission.js';
import { leftOf, withoutStore } from './claims.js';
import type { Claims } from './claims.js';
import type { EndOfTurn } from './end-of-turn.js';
import { OwnerTokens } from './owner-tokens.js';
import { isInUse, tooMany } from './refusals.js';
import { standsUntil } from './replay-memory.js';
import type { ReplayMemory } from './replay-memory.js';
import type { Roster } from './roster.js';
import type { Finding, News, Verdict } from './verdict.js';
import type { WaitingRooms } from './waiting.js';

export interface LooksParts {
  readonly claims: Claims;
  readonly clock: Clock;
  readonly memory: ReplayMemory;
  readonly roster: Roster;
  readonly waiting: WaitingRooms<News>;
  readonly turn: EndOfTurn;
  /** Whether nobody may begin any more. */
  readonly isDraining: () => boolean;
}

/** One that is under way. */
interface Look {
  /** The request that asks, and with what. */
  readonly admission: Admission;
  readonly claim: Claim;
  /** Its place in the order in which requests come and looks are sent. */
  readonly turn: number;
  readonly sentAt: number;
  readonly until: number;
  /** Something was done to the record by hand meanwhile: what is found may be older than that. */
  isOutdated: boolean;
  followers: ((news: News) => void)[] | undefined;
}

export class Looks {
  readonly #underWay = new ById<Look>();
  readonly #owners = new OwnerTokens();
  #turn = 0;

  constructor(private readonly parts: LooksParts) {}

  /** What can be said without asking and without waiting: the answer, where it is one that is asked for all the time. */
  remembered(admission: Admission): Verdict | undefined {
    const record = this.parts.memory.recall(admission.identity.id);
    return record && this.parts.claims.judge(admission, record);
  }

  ask(admission: Admission): Promise<Verdict>;
  /** @param mayWait whether a request that would be refused because its key is in use waits instead; it is taken at its word */
  ask(admission: Admission, mayWait: () => boolean): Promise<Verdict | 'waits'>;
  ask(admission: Admission, mayWait?: () => boolean): Promise<Verdict | 'waits'> {
    const turn = (this.#turn += 1);
    const until = this.parts.clock.now() + admission.settings.storeTimeoutMs;
    const known = this.#known(admission);
    if (known !== undefined) return mayWait === undefined ? this.parts.turn.tell(known) : Promise.resolve(orWait(known, mayWait));
    const look = this.#underWay.get(admission.identity.id);
    if (look !== undefined) return this.#askAfter(look, admission, turn, until, mayWait);
    const found = this.#look(admission, until);
    return mayWait === undefined ? found : found.then((verdict) => orWait(verdict, mayWait));
  }

  /** What that one has found may do for this request; otherwise it asks, or follows whoever was faster. */
  async #askAfter(
    first: Look,
    admission: Admission,
    turn: number,
    until: number,
    mayWait: (() => boolean) | undefined,
  ): Promise<Verdict | 'waits'> {
    for (let look: Look | undefined = first; look !== undefined; look = this.#underWay.get(admission.identity.id)) {
      const news = await this.#follow(look, until);
      const heard = turn < look.turn ? this.heard(admission, news, mayWait) : this.#heardLate(admission, news, look, mayWait);
      if (heard !== undefined) return heard;
      const known = this.#known(admission);
      if (known !== undefined) return orWait(known, mayWait);
    }
    return orWait(await this.#look(admission, until), mayWait);
  }

  /** What nobody need ask the store for. */
  #known(admission: Admission): Verdict | undefined {
    const here = this.#atWorkHere(admission) ?? this.remembered(admission);
    if (here !== undefined) return here;
    return this.parts.isDraining() ? { kind: 'refuse', error: new StoreUnavailable() } : undefined;
  }

  /** What follows for a request from what another one has found; `undefined`: it has to ask itself. */
  heard(admission: Admission, news: News, mayWait?: () => boolean): Verdict | 'waits' | undefined {
    const verdict = this.#follows(admission, news);
    return verdict && orWait(verdict, mayWait);
  }

  #follows(admission: Admission, news: News): Verdict | undefined {
    const { claims } = this.parts;
    switch (news.kind) {
      case 'owned': // at work right here, or given back already
        return undefined;
      case 'found':
        return !news.held && claims.mayTakeOver(admission, news.record) ? undefined : claims.judge(admission, news.record, news.held);
      case 'over-limit':
        return news.maxLiveKeys === admission.settings.maxLiveKeys ? tooMany(admission.settings, news) : undefined;
      case 'failed':
        // Whoever has more patience than the one that asked has reason to ask itself.
        if (admission.settings.storeTimeoutMs > news.patienceMs) return undefined;
        if (!isIdempotencyError(news.error)) throw news.error;
        return withoutStore(admission, news.error);
    }
  }

  /** Records were removed or settled by hand in this process: what was read before is no longer said, of those at least. */
  lookAfresh(concerns: (identity: Identity) => boolean): void {
    this.parts.memory.drop(concerns);
    for (const look of this.#underWay.all()) look.isOutdated ||= concerns(look.admission.identity);
  }

  #atWorkHere(admission: Admission): Verdict | undefined {
    const { claims, clock, roster } = this.parts;
    const execution = roster.atWork(admission.identity.id);
    return execution && claims.judge(admission, execution.asFound(clock.now()));
  }

  /** Of a look that was on its way before it came: only what can't be otherwise by now. */
  #heardLate(admission: Admission, news: News, look: Look, mayWait: (() => boolean) | undefined): Verdict | 'waits' | undefined {
    const { claims, clock } = this.parts;
    if (news.kind === 'failed') return this.#follows(admission, news);
    if (news.kind !== 'found') return undefined;
    const { record } = news;
    if (isLasting(record) && !look.isOutdated && clock.now() < standsUntil(record, look.sentAt)) return claims.judge(admission, record);
    // Whoever waits is not told that it runs, but looks again in a moment.
    const seemsAtWork = record.state === 'running' || news.held;
    return seemsAtWork && mayWait !== undefined && isInUse(claims.judge(admission, record, news.held)) && mayWait() ? 'waits' : undefined;
  }

  #look(admission: Admission, until: number): Promise<Verdict> {
    const claim = claimOf(admission, this.#owners.next());
    const sentAt = this.parts.clock.now();
    const look: Look = { admission, claim, turn: (this.#turn += 1), sentAt, until, isOutdated: false, followers: undefined };
    this.#underWay.set(claim.id, look);
    const failed = (error: unknown): Verdict => this.#failed(look, error);
    return this.parts.claims.ask(claim, leftOf(until, sentAt)).then((result) => {
      const finding = this.parts.claims.findingOf(look.admission, look.claim, result, look.until);
      return finding instanceof Promise ? finding.then((taken) => this.#found(look, taken), failed) : this.#found(look, finding);
    }, failed);
  }

  #found(look: Look, finding: Finding): Verdict | Promise<Verdict> {
    const { claims, memory } = this.parts;
    const { admission, sentAt } = look;
    if (finding.kind === 'owned') {
      const owned = claims.own(admission, finding, sentAt);
      this.#end(look, finding); // the others find it at work
      return claims.begun(admission, owned, finding.takenOver);
    }
    this.#end(look, finding);
    if (finding.kind === 'over-limit') return tooMany(admission.settings, finding);
    const { record, held } = finding;
    const verdict = claims.judge(admission, record, held);
    if (record.state === 'completed' && verdict.kind === 'replay') memory.note(admission.identity, record, sentAt);
    return verdict;
  }

  #failed(look: Look, error: unknown): Verdict {
    const { admission, claim } = look;
    this.#end(look, { kind: 'failed', error, patienceMs: admission.settings.storeTimeoutMs });
    if (!isIdempotencyError(error)) throw error;
    return this.parts.claims.failed(admission, claim, error);
  }

  /** Those who wait for somebody else's answer came before this look was sent. */
  #end(look: Look, news: News): void {
    const { id } = look.claim;
    this.#underWay.delete(id);
    if (isOver(news)) this.parts.waiting.tell(id, news);
    if (look.followers !== undefined) for (const tell of look.followers) tell(news);
  }

  /** No longer than the follower would have waited for the store itself. */
  #follow(look: Look, until: number): Promise<News> {
    const { clock } = this.parts;
    return new Promise((resolve) => {
      look.followers ??= [];
      if (until >= look.until) return void look.followers.push(resolve);
      const cancel = clock.after(until - clock.now(), () =>
        resolve({ kind: 'failed', error: new StoreUnavailable(), patienceMs: Infinity }),
      );
      look.followers.push((news) => {
        cancel();
        resolve(news);
      });
    });
  }
}

/** What those have waited for who wait for an execution elsewhere: it is not at work any more, whatever has come of it. */
function isOver(news: News): boolean {
  return news.kind === 'over-limit' || (news.kind === 'found' && !news.held && news.record.state !== 'running');
}

/** Neither its answer nor that there is none ever changes, as long as the record is there. */
function isLasting({ state }: FoundRecord): boolean {
  return state === 'completed' || state === 'sealed';
}

function orWait(verdict: Verdict, mayWait: (() => boolean) | undefined): Verdict | 'waits' {
  return mayWait !== undefined && isInUse(verdict) && mayWait() ? 'waits' : verdict;
}
