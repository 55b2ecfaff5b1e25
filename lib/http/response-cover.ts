/**
 * Stands in front of a response's own members and steps aside without a trace. What stood there
 * before, be it Node's or a middleware's, is what is called underneath.
 *
 * On Node's own kind of response it stands on the response itself: up to a dozen members, taken off in
 * reverse order, cost next to nothing. A framework that gives its responses a prototype of its own, as
 * Express does, makes each member dear; there it stands between the two, as one veil for all responses
 * of a kind, and only what a middleware has put on the response itself is covered there.
 */
import { ServerResponse } from 'node:http';

export type Method = (...args: never[]) => unknown;

/** What stands in front of the members of these names, on behalf of any `whose`: made once, for all responses. */
export type Fronts<Whose> = Readonly<Record<string, (whose: Whose, args: readonly unknown[]) => unknown>>;

interface Covered {
  readonly name: string;
  readonly front: Method;
  readonly below: Method;
  /** Whether the response itself had it (a middleware's), or inherited it from Node's class. */
  readonly own: boolean;
  lifted: boolean;
}

/** What of a response can be shown as it is not. */
export type Shown = 'headersSent' | 'writableEnded' | 'closed';

const SHOWN = ['headersSent', 'writableEnded', 'closed'] as const satisfies readonly Shown[];

const VEILED = [
  'writeHead',
  'flushHeaders',
  'addTrailers',
  'write',
  'end',
  'destroy',
  'emit',
  'setHeader',
  'appendHeader',
  'removeHeader',
] as const;

/** By this the veil knows whose it is. The response keeps it: who has stepped in front of the veil may call it for ever. */
const COVER = Symbol('cover');

interface Veiled {
  [COVER]?: ResponseCover;
}

export class ResponseCover {
  readonly #members: Record<string, unknown>;
  readonly #base: Record<string, unknown>;
  readonly #veil: object | undefined;
  #fronts: Fronts<unknown> | undefined;
  #whose: unknown;
  /** Of `#fronts`, where not all of them are. */
  #liftedFronts: readonly string[] | undefined;
  #allLifted = false;
  /** All others: a handful, which a search finds sooner than a map. */
  readonly #covered: Covered[] = [];
  #shown: { [Name in Shown]?: boolean | undefined } | undefined;
  /** In the order in which they were covered or shown. */
  readonly #names: string[] = [];

  constructor(private readonly response: ServerResponse) {
    this.#members = response as unknown as Record<string, unknown>;
    this.#base = Object.getPrototypeOf(response) as Record<string, unknown>;
    const isNodes = Object.is(this.#base, ServerResponse.prototype);
    if (isNodes || COVER in response) return; // covered by another one of us already: the veil can serve only one
    (response as Veiled)[COVER] = this;
    this.#veil = veilOver(this.#base);
    Object.setPrototypeOf(response, this.#veil);
  }

  /** Puts all of them in front, once. */
  stand<Whose>(fronts: Fronts<Whose>, whose: Whose): void {
    this.#fronts = fronts as Fronts<unknown>;
    this.#whose = whose;
    for (const name in fronts) {
      if (this.#veil === undefined || Object.hasOwn(this.response, name)) this.put(name, (...args) => fronts[name]?.(whose, args));
    }
  }

  put(name: string, front: Method): void {
    const own = Object.hasOwn(this.response, name);
    const inPlace = own || this.#veil === undefined || !isVeiled(name);
    const below = (inPlace ? this.#members : this.#base)[name] as Method;
    this.#covered.push({ name, front, below, own, lifted: false });
    this.#names.push(name);
    if (inPlace) this.#members[name] = front;
  }

  /** Shows a property as it is not. */
  show(name: Shown, value: boolean): void {
    (this.#shown ??= {})[name] = value;
    this.#names.push(name);
    if (this.#veil === undefined || Object.hasOwn(this.response, name)) {
      Object.defineProperty(this.response, name, { configurable: true, value });
    }
  }

  /** Calls what is underneath, whether the cover still stands or not. */
  below(name: string, args: readonly unknown[]): unknown {
    const covered = this.#covering(name);
    const isFronted = covered === undefined && this.#fronts !== undefined && name in this.#fronts;
    const below = covered?.below ?? (isFronted ? this.#base : this.#members)[name];
    return Reflect.apply(below as Method, this.response, args);
  }

  /** Uncovers the named members; all of them, without a list. The last goes first, which leaves the response as quick as it was. */
  lift(names?: readonly string[]): void {
    if (names === undefined) this.#allLifted = true;
    else if (this.#fronts !== undefined) this.#liftedFronts = [...(this.#liftedFronts ?? []), ...names];
    for (let i = this.#names.length - 1; i >= 0; i -= 1) {
      const name = this.#names[i];
      if (name !== undefined && (names === undefined || names.includes(name))) this.#liftOne(name);
    }
    // Somebody who has changed the prototype since then keeps the veil, which passes everything on.
    if (names !== undefined || this.#veil === undefined || Object.getPrototypeOf(this.response) !== this.#veil) return;
    Object.setPrototypeOf(this.response, this.#base);
  }

  /**
   * What the veil does about a call, on behalf of whoever stands in front.
   *
   * @internal
   */
  veiled(name: string, on: unknown, args: readonly unknown[]): unknown {
    const covered = this.#covering(name);
    if (covered !== undefined && !covered.lifted) return Reflect.apply(covered.front, on, args);
    const front = covered === undefined && !this.#allLifted && !this.#liftedFronts?.includes(name) ? this.#fronts?.[name] : undefined;
    return front === undefined ? Reflect.apply(this.#base[name] as Method, on, args) : front(this.#whose, args);
  }

  /** @internal */
  shownAs(name: Shown): boolean | undefined {
    return this.#shown?.[name];
  }

  #covering(name: string): Covered | undefined {
    return this.#covered.findLast((covered) => covered.name === name);
  }

  #liftOne(name: string): void {
    if (this.#shown?.[name as Shown] !== undefined) {
      this.#shown[name as Shown] = undefined;
      if (Object.hasOwn(this.response, name)) Reflect.deleteProperty(this.response, name);
      return;
    }
    const covered = this.#covering(name);
    if (covered === undefined || covered.lifted) return;
    covered.lifted = true;
    // Somebody who has stepped in front of us since then calls us, and we pass the call on.
    if (!Object.hasOwn(this.response, name) || this.#members[name] !== covered.front) return;
    if (covered.own) this.#members[name] = covered.below;
    else Reflect.deleteProperty(this.response, name);
  }
}

/** A cache of what a prototype alone decides. */
const veils = new WeakMap<object, object>();

function veilOver(base: Record<string, unknown>): object {
  let veil = veils.get(base);
  if (veil === undefined) veils.set(base, (veil = makeVeil(base)));
  return veil;
}

function makeVeil(base: Record<string, unknown>): object {
  const veil = Object.create(base) as Record<string, unknown>;
  for (const name of VEILED) {
    veil[name] = function (this: Veiled, ...args: unknown[]): unknown {
      const cover = this[COVER];
      return cover === undefined ? Reflect.apply(base[name] as Method, this, args) : cover.veiled(name, this, args);
    };
  }
  for (const name of SHOWN) {
    const get = function (this: Veiled): unknown {
      return this[COVER]?.shownAs(name) ?? Reflect.get(base, name, this);
    };
    Object.defineProperty(veil, name, { configurable: true, get });
  }
  return veil;
}

function isVeiled(name: string): boolean {
  return (VEILED as readonly string[]).includes(name);
}
